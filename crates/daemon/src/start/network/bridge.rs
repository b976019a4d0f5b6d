//! Interfaces of the container's own on bridges of the host, made by netavark.

use std::{
    net::Ipv4Addr,
    sync::{Arc, PoisonError},
};

use super::{Connection, Files, Guards, Namespace, identity_or};
use crate::{
    Error, Result,
    container::Container,
    host::Host,
    model::{Bridge, Endpoint, Networking, Port, Record},
    netavark::{Action, Request},
    netns::NetworkNamespace,
    networks::Network,
    start::hosts,
};

pub(super) fn connect(
    host: &Arc<Host>,
    container: &Arc<Container>,
    bridge: &Bridge,
) -> Result<Connection> {
    let reservation = Reservation::make(host, container, bridge)?;
    let netns = NetworkNamespace::create(host.netns(container.id()))?;
    let interfaces = Interfaces::set_up(host, container)?;
    let record = container.record();
    hosts::refresh_neighbours(host, &record);
    Ok(Connection {
        namespace: Namespace::At(netns.path().to_owned()),
        identity: identity_or(&record, record.short_id()),
        files: Files::Own,
        _guards: (Some(interfaces), Some(netns), Some(reservation)),
    })
}

pub(super) fn adopt(host: &Arc<Host>, container: &Arc<Container>) -> Guards {
    let record = container.record();
    if record.state.endpoints.is_empty() {
        return (None, None, None);
    }
    let (host, container) = (Arc::clone(host), Arc::clone(container));
    let netns = NetworkNamespace::adopt(host.netns(container.id()));
    let interfaces = Interfaces { host: Arc::clone(&host), container: Arc::clone(&container) };
    (Some(interfaces), Some(netns), Some(Reservation { host, container }))
}

/// A container's addresses and ports, recorded with it. Dropping this frees them.
#[derive(Debug)]
pub(super) struct Reservation {
    host: Arc<Host>,
    container: Arc<Container>,
}

impl Reservation {
    fn make(host: &Arc<Host>, container: &Arc<Container>, bridge: &Bridge) -> Result<Reservation> {
        let _reserving = host.reserving.lock().unwrap_or_else(PoisonError::into_inner);
        let others = connected(host, container.id());
        check_ports(&bridge.ports, &others)?;
        let mut endpoints = Vec::new();
        for (index, name) in bridge.networks.iter().enumerate() {
            let network = host.networks.find(name)?;
            let address = free_address(&network, &others)?;
            let interface = format!("eth{index}");
            endpoints.push(Endpoint { network: network.name, interface, address });
        }
        container.update(|record| record.state.endpoints = endpoints)?;
        Ok(Reservation { host: Arc::clone(host), container: Arc::clone(container) })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let record = self.container.record();
        self.container.observe(|record| record.state.endpoints.clear());
        hosts::refresh_neighbours(&self.host, &record);
    }
}

/// All others that have addresses.
fn connected(host: &Host, id: &str) -> Vec<Record> {
    let records = host.store.all().into_iter().map(|container| container.record());
    records.filter(|record| record.id != id && !record.state.endpoints.is_empty()).collect()
}

fn free_address(network: &Network, others: &[Record]) -> Result<Ipv4Addr> {
    let endpoints = || others.iter().flat_map(|record| &record.state.endpoints);
    let is_free = |address: &Ipv4Addr| {
        !endpoints().any(|e| e.network == network.name && e.address == *address)
    };
    let free = network.subnet.addresses().find(is_free);
    free.ok_or_else(|| Error::NoFreeAddress(network.name.clone()))
}

fn check_ports(ports: &[Port], others: &[Record]) -> Result<()> {
    for other in others {
        let Networking::Bridge(theirs) = &other.config.networking else { continue };
        let conflicts = |port: &&Port| theirs.ports.iter().any(|t| t.conflicts_with(port));
        if let Some(port) = ports.iter().find(conflicts) {
            let port = format!("{}/{}", port.host, port.protocol.name());
            return Err(Error::PortTaken { port, container: other.name.clone() });
        }
    }
    Ok(())
}

/// What netavark has made for a container. Dropping it has netavark remove that.
#[derive(Debug)]
pub(super) struct Interfaces {
    host: Arc<Host>,
    container: Arc<Container>,
}

impl Interfaces {
    fn set_up(host: &Arc<Host>, container: &Arc<Container>) -> Result<Interfaces> {
        // Made first, so that what is there of a setup that fails is removed.
        let interfaces = Interfaces { host: Arc::clone(host), container: Arc::clone(container) };
        interfaces.run(Action::Setup)?;
        Ok(interfaces)
    }

    fn run(&self, action: Action) -> Result<()> {
        let record = self.container.record();
        let Networking::Bridge(bridge) = &record.config.networking else { return Ok(()) };
        let mut request = Request::new(&record.id, &record.name, &bridge.ports);
        for endpoint in &record.state.endpoints {
            let network = self.host.networks.find(&endpoint.network)?;
            request.connect(&network, &endpoint.interface, endpoint.address);
        }
        self.host.netavark.run(action, &request, &self.host.netns(&record.id))
    }
}

impl Drop for Interfaces {
    fn drop(&mut self) {
        // The host was restarted since, and has none of these interfaces any more.
        if !self.host.netns(self.container.id()).exists() {
            return;
        }
        if let Err(error) = self.run(Action::Teardown) {
            tracing::warn!(%error, "network not taken down");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{container::testing, model::Protocol};

    fn connected(address: [u8; 4], port: u16) -> Record {
        let mut config = testing::config();
        let Networking::Bridge(bridge) = &mut config.networking else { unreachable!() };
        bridge.ports = vec![published(port)];
        let mut record = Record::new("1".repeat(64), "other".into(), config);
        record.state.endpoints = vec![Endpoint {
            network: "web".into(),
            interface: "eth0".into(),
            address: address.into(),
        }];
        record
    }

    fn published(host: u16) -> Port {
        Port { container: 80, host, host_ip: None, protocol: Protocol::Tcp }
    }

    fn network(name: &str) -> Network {
        let subnet = "10.1.0.0/29".parse().unwrap();
        Network { name: name.into(), id: "2".repeat(64), subnet }
    }

    #[test]
    fn the_lowest_free_address_is_taken() {
        let others = [connected([10, 1, 0, 2], 1), connected([10, 1, 0, 4], 2)];
        assert_eq!(free_address(&network("web"), &others).unwrap(), Ipv4Addr::new(10, 1, 0, 3));
        assert_eq!(free_address(&network("db"), &others).unwrap(), Ipv4Addr::new(10, 1, 0, 2));
        let all: Vec<_> = (2..7).map(|n| connected([10, 1, 0, n], 1)).collect();
        assert!(matches!(free_address(&network("web"), &all), Err(Error::NoFreeAddress(_))));
    }

    #[test]
    fn a_port_is_published_once() {
        let others = [connected([10, 1, 0, 2], 8080)];
        check_ports(&[published(8081)], &others).unwrap();
        check_ports(&[Port { protocol: Protocol::Udp, ..published(8080) }], &others).unwrap();
        let taken = check_ports(&[published(8081), published(8080)], &others).unwrap_err();
        assert_eq!(taken.to_string(), "port 8080/tcp of the host is published by container other");
        let local = Port { host_ip: Some(Ipv4Addr::LOCALHOST), ..published(8080) };
        assert!(check_ports(&[local], &others).is_err());
    }
}
