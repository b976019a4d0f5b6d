//! A filter of system calls from a file, instead of the default one of `gantry_client`.

use std::{fs::File, io::Read, path::Path};

use gantry_client::oci_spec::runtime::LinuxSeccomp;

use crate::failure::Failure;

/// More than any profile has.
const LARGEST: u64 = 1 << 20;

/// The filter in a file: `linux.seccomp` of the OCI runtime specification.
pub(super) fn read(path: &Path) -> Result<LinuxSeccomp, Failure> {
    let bad = |problem: &str| {
        Failure::new(format!("--security-opt: seccomp: {}: {problem}", path.display()))
    };
    let mut data = Vec::new();
    let file = File::open(path).map_err(|error| bad(&error.to_string()))?;
    file.take(LARGEST + 1).read_to_end(&mut data).map_err(|error| bad(&error.to_string()))?;
    if u64::try_from(data.len()).is_ok_and(|length| length > LARGEST) {
        return Err(bad("more than 1 MiB is no profile"));
    }
    let value: serde_json::Value =
        serde_json::from_slice(&data).map_err(|error| bad(&error.to_string()))?;
    let conditions = ["includes", "excludes"];
    let rules = value["syscalls"].as_array().into_iter().flatten();
    let has_conditions = |rule: &serde_json::Value| {
        conditions.iter().any(|key| rule[*key].as_object().is_some_and(|it| !it.is_empty()))
    };
    if value.get("archMap").is_some() || rules.into_iter().any(has_conditions) {
        return Err(bad(
            "archMap, includes and excludes are docker's: want linux.seccomp of the OCI runtime specification",
        ));
    }
    serde_json::from_value(value).map_err(|error| bad(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_client::oci_spec::runtime::LinuxSeccompAction;
    use serde_json::{Value, json};
    use std::fs;

    #[test]
    fn a_profile_is_the_specifications() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("profile.json");
        let read_back = |json: Value| {
            fs::write(&path, json.to_string()).unwrap();
            read(&path)
        };
        let rule = json!({ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO" });
        let good = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
        let profile = read_back(good.clone()).unwrap();
        assert_eq!(profile.default_action(), LinuxSeccompAction::ScmpActAllow);
        let mut dockers = good;
        dockers["syscalls"][0]["includes"] = json!({ "caps": ["CAP_SYS_ADMIN"] });
        assert!(read_back(dockers).unwrap_err().to_string().contains("docker's"));
        let nothing = read_back(json!({ "defaultAction": "NONSENSE" })).unwrap_err().to_string();
        assert!(nothing.contains("profile.json: "), "{nothing}");
        read(Path::new("/no/such")).unwrap_err();
    }
}
