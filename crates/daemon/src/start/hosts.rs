//! The hosts files by which containers of a network find each other: kept up to date as others come
//! and go.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs::File,
    io::{self, Write},
    path::Path,
    sync::PoisonError,
};

use crate::{
    Error, Result,
    container::Container,
    host::Host,
    model::{Endpoint, Networking, Record},
    networks,
};

pub(super) const NAME: &str = "hosts";

const LOOPBACK: &str = "127.0.0.1\tlocalhost\n\
                        ::1\tlocalhost ip6-localhost ip6-loopback\n\
                        ff02::1\tip6-allnodes\n\
                        ff02::2\tip6-allrouters\n";

/// Writes the hosts file of a container.
pub(super) fn write(host: &Host, container: &Container) -> Result<()> {
    let _writing = host.hosts_files.lock().unwrap_or_else(PoisonError::into_inner);
    write_in_place(container, &text(&container.record(), &records(host)))
}

/// Writes the hosts files of all that share a network with this one anew.
pub(super) fn refresh_neighbours(host: &Host, changed: &Record) {
    let _writing = host.hosts_files.lock().unwrap_or_else(PoisonError::into_inner);
    let records = records(host);
    for container in host.store.all() {
        let record = container.record();
        // Without a file yet, its own start is about to write one.
        let is_concerned = record.id != changed.id
            && in_common(changed, &record).next().is_some()
            && container.dir().join(NAME).exists();
        if is_concerned && let Err(error) = write_in_place(&container, &text(&record, &records)) {
            tracing::warn!(container = record.id, %error, "hosts file is out of date");
        }
    }
}

fn records(host: &Host) -> Vec<Record> {
    host.store.all().iter().map(|container| container.record()).collect()
}

/// Overwrites, and cuts off afterwards: the container has the file itself mounted, so it cannot be
/// replaced, and never finds an empty one.
fn write_in_place(container: &Container, text: &str) -> Result<()> {
    let path = container.dir().join(NAME);
    overwrite(&path, text).map_err(|error| Error::io("write", &path, error))
}

fn overwrite(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(false).open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)
}

/// The endpoints of `other` on the networks that both are on, where names are resolved.
fn in_common<'a>(one: &'a Record, other: &'a Record) -> impl Iterator<Item = &'a Endpoint> {
    let ours = one.state.endpoints.iter().map(|e| e.network.as_str());
    let ours: BTreeSet<_> = ours.filter(|name| *name != networks::DEFAULT).collect();
    other.state.endpoints.iter().filter(move |e| ours.contains(e.network.as_str()))
}

fn text(record: &Record, all: &[Record]) -> String {
    let mut text = LOOPBACK.to_owned();
    let mut add = |endpoint: &Endpoint, names: &[String]| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}\t{}", endpoint.address, names.join(" "));
    };
    let own = own_names(record);
    record.state.endpoints.iter().for_each(|endpoint| add(endpoint, &own));
    for other in all.iter().filter(|other| other.id != record.id) {
        let names = names_for_others(other);
        in_common(record, other).for_each(|endpoint| add(endpoint, &names));
    }
    text
}

fn own_names(record: &Record) -> Vec<String> {
    let identity = &record.state.identity;
    let full = identity.domainname.iter().map(|d| format!("{}.{d}", identity.hostname));
    full.chain([identity.hostname.clone(), record.name.clone()]).collect()
}

fn names_for_others(record: &Record) -> Vec<String> {
    let aliases = match &record.config.networking {
        Networking::Bridge(bridge) => bridge.aliases.as_slice(),
        _ => &[],
    };
    let names = [record.name.clone(), record.short_id().to_owned()];
    names.into_iter().chain(aliases.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{container::testing, model::Identity};

    fn record(name: &str, networks: &[(&str, u8)]) -> Record {
        let id = format!("{name:0<64}");
        let mut record = Record::new(id, name.into(), testing::config());
        record.state.identity =
            Identity { hostname: format!("{name}-host"), domainname: Some("example".into()) };
        let endpoint = |(network, last): &(&str, u8)| Endpoint {
            network: (*network).to_owned(),
            interface: "eth0".into(),
            address: [10, 1, 0, *last].into(),
        };
        record.state.endpoints = networks.iter().map(endpoint).collect();
        record
    }

    #[test]
    fn only_neighbours_are_named() {
        let web = record("web", &[("front", 2), ("bridge", 9)]);
        let others = [
            web.clone(),
            record("db", &[("front", 3), ("back", 4)]),
            record("far", &[("back", 5)]),
        ];
        let text = text(&web, &others);
        let lines: Vec<_> = text.strip_prefix(LOOPBACK).unwrap().lines().collect();
        assert_eq!(
            lines,
            [
                "10.1.0.2\tweb-host.example web-host web",
                "10.1.0.9\tweb-host.example web-host web",
                "10.1.0.3\tdb db0000000000",
            ]
        );
    }

    #[test]
    fn there_are_no_names_on_the_default_network() {
        let web = record("web", &[("bridge", 2)]);
        let text = text(&web, &[record("db", &[("bridge", 3)])]);
        assert!(!text.contains("db"), "{text}");
    }

    #[test]
    fn a_shorter_text_leaves_nothing_of_the_longer_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        overwrite(&path, "a long text\n").unwrap();
        overwrite(&path, "short\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "short\n");
    }
}
