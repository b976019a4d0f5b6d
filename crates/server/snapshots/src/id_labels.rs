//! Labels of snapshots that say which ids of files are as which others in a container with a user namespace.

use gantry_store::Labels;

use crate::SnapshotError;

/// Ranges as `0:100000:65536`, with commas between: a user's id in the container, on the host, and how many follow.
const UIDS: &str = "containerd.io/snapshot/uidmapping";

/// The same of groups.
const GIDS: &str = "containerd.io/snapshot/gidmapping";

/// Who is root of the container on the host; `None` of a snapshot without such labels.
pub(crate) fn root(labels: &Labels) -> Result<Option<(u32, u32)>, SnapshotError> {
    let maps = [labels.get(UIDS), labels.get(GIDS)];
    if maps == [None, None] {
        return Ok(None);
    }
    let [uid, gid] = [(UIDS, maps[0]), (GIDS, maps[1])].map(|(label, map)| match map {
        // As in containerd, ids without a map are the same.
        None => Ok(0),
        Some(map) => of_root(map).ok_or(SnapshotError::IdMap { label, map: map.clone() }),
    });
    Ok(Some((uid?, gid?)))
}

/// The host's id of the id 0, which has to be in the map. All of the map has to be well-formed.
fn of_root(map: &str) -> Option<u32> {
    let mut found = None;
    for range in map.split(',') {
        let ids: Vec<u32> = range.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
        let [inside, outside, count] = ids[..] else { return None };
        // The greatest number is no id.
        if [inside, outside].into_iter().any(|first| first.checked_add(count).is_none()) {
            return None;
        }
        if inside == 0 && count > 0 && found.is_none() {
            found = Some(outside);
        }
    }
    found
}

/// The options that have these ids mapped, of a snapshot with such labels.
pub(crate) fn options(labels: &Labels) -> Vec<String> {
    let option = |(key, label)| labels.get(label).map(|map| format!("{key}={map}"));
    [("uidmap", UIDS), ("gidmap", GIDS)].into_iter().filter_map(option).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(uids: &str, gids: &str) -> Labels {
        let pairs = [(UIDS, uids), (GIDS, gids)];
        let given = pairs.into_iter().filter(|(_, map)| *map != "-");
        given.map(|(label, map)| (label.to_owned(), map.to_owned())).collect()
    }

    #[test]
    fn root_is_in_the_maps() {
        assert_eq!(root(&labels("-", "-")).unwrap(), None);
        assert_eq!(root(&labels("5:1:2,0:7:1", "0:8:9")).unwrap(), Some((7, 8)));
        assert_eq!(root(&labels("0:7:1", "-")).unwrap(), Some((7, 0)));
        for bad in
            ["", "0:1", "0:1:2:3", "x:1:2", "-1:1:2", "1:1:2", "0:1:0", "0:1:4294967295", "0:1:1,"]
        {
            let error = root(&labels(bad, "0:1:1")).unwrap_err();
            assert!(error.to_string().contains(UIDS), "{error}");
            assert!(root(&labels("0:1:1", bad)).is_err(), "{bad}");
        }
        assert_eq!(options(&labels("a", "b")), ["uidmap=a", "gidmap=b"]);
        assert_eq!(options(&labels("-", "-")), [""; 0]);
    }
}
