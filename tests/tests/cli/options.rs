//! What `gantry run` lets a container have and do.

use std::{fs, path::Path, process::Command};

use Runtime::{Crun, Runc};
use gantry_tests::Runtime;
use rstest::rstest;
use serde_json::{Value, json};

use crate::{
    Bed,
    bed::BUNDLES,
    image::NewImage,
    output,
    run_image::{finish, gantry, namespace, run},
    stderr, stdout, succeeds,
};

/// What a shell in a container prints.
fn says(bed: &Bed, options: &[&str], script: &str) -> String {
    let output = output(&bed.run(&[&["--rm"], options].concat(), "c", &["sh", "-c", script]));
    format!("{}{}", stdout(&output), stderr(&output))
}

#[rstest]
#[tokio::test]
async fn mounts_are_where_they_are_wanted(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(bed) = Bed::make(runtime).await else { return };
    let dir = bed.server.work().join("shared");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("file"), "of the host\n").unwrap();
    let dir = dir.to_str().unwrap();
    let volume = format!("{dir}:/v");
    let read_only = format!("{dir}:/r:ro");
    let mount = format!("type=bind,src={dir},dst=/m,options=rbind:ro");
    let options = ["-v", &volume, "-v", &read_only, "--mount", &mount, "--tmpfs", "/t:size=64k"];
    let script = "cat /v/file /r/file /m/file; echo inside > /v/new; \
                  for d in /r /m; do echo x > $d/x && echo written; done 2>/dev/null; \
                  grep -c ' /t tmpfs rw,nosuid,nodev,noexec.*size=64k' /proc/mounts";
    let said = says(&bed, &options, script);
    assert_eq!(said, "of the host\nof the host\nof the host\n1\n");
    assert_eq!(fs::read_to_string(format!("{dir}/new")).unwrap(), "inside\n");
    let script = "echo x > /x || echo refused; echo x > /t/x && echo written";
    let said = says(&bed, &["--read-only", "--tmpfs", "/t"], script);
    assert!(said.starts_with("refused\nwritten\n"), "{said}");
    let missing = output(&bed.run(&["--rm", "-v", "/no/such:/v"], "c", &["true"]));
    assert_eq!(missing.status.code(), Some(125), "{missing:?}");
    assert_eq!(
        stderr(&missing),
        "gantry: --volume: /no/such: No such file or directory (os error 2)\n"
    );
    bed.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_container_may_what_it_was_given(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(bed) = Bed::make(runtime).await else { return };
    let of_status = |options: &[&str], field: &str| {
        let script = format!("grep -w {field} /proc/self/status | cut -f 2");
        says(&bed, options, &script).trim().to_owned()
    };
    // The number of a capability is that of its bit, see linux/capability.h.
    let bounding =
        |options: &[&str]| u64::from_str_radix(&of_status(options, "CapBnd"), 16).unwrap();
    let (chown, net_admin) = (1, 1 << 12);
    assert_eq!(bounding(&[]) & (chown | net_admin), chown);
    let changed = bounding(&["--cap-add", "net_admin", "--cap-drop", "CAP_CHOWN"]);
    assert_eq!(changed & (chown | net_admin), net_admin);
    assert_eq!(bounding(&["--cap-drop", "ALL"]), 0);

    assert_eq!(of_status(&[], "NoNewPrivs"), "1");
    assert_eq!(of_status(&["--security-opt", "no-new-privileges=false"], "NoNewPrivs"), "0");
    let (filtered, none) = ("2", "0");
    assert_eq!(of_status(&[], "Seccomp"), filtered);
    assert_eq!(of_status(&["--security-opt", "seccomp=unconfined"], "Seccomp"), none);

    // Even with the capability to, no mount below another filter.
    let mount = "mkdir -p /tmp/m && mount -t tmpfs none /tmp/m && echo mounted";
    assert_eq!(says(&bed, &["--cap-add", "SYS_ADMIN"], mount), "mounted\n");
    let profile = bed.server.work().join("profile.json");
    let rule = json!({ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 });
    fs::write(
        &profile,
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }).to_string(),
    )
    .unwrap();
    let option = format!("seccomp={}", profile.display());
    let said = says(&bed, &["--security-opt", &option], "mkdir /tmp/x");
    assert!(said.contains("not supported"), "{said}");

    let hidden = "head -c 1 /proc/kcore | wc -c; echo 1 > /proc/sys/kernel/panic || echo refused";
    assert!(says(&bed, &[], hidden).starts_with("0\nrefused\n"));
    let privileged =
        "grep -c ' /sys sysfs ro' /proc/mounts; head -c 4 /proc/kcore | wc -c; ls /dev";
    let said = says(&bed, &["--privileged"], privileged);
    assert!(said.starts_with("0\n"), "{said}");
    assert_eq!(of_status(&["--privileged"], "Seccomp"), none);
    bed.finish().await;
}

#[rstest]
#[tokio::test]
async fn devices_and_limits_are_set(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(bed) = Bed::make(runtime).await else { return };
    let said = says(
        &bed,
        &["--device", "/dev/zero:/dev/nought:r"],
        "ls -l /dev/nought; head -c 3 /dev/nought | wc -c",
    );
    assert!(said.contains("1,   5") && said.ends_with("3\n"), "{said}");
    let options = ["-d", "--cpus", "0.5", "-m", "64m", "--pids-limit", "40", "-l", "tier=front"];
    succeeds(&bed.run(&options, "c", &["sleep", "1000000"]));
    assert_eq!(
        succeeds(&bed.gantry(&["ps", "-q", "--filter", "label=tier=front"])),
        bed.id("c") + "\n"
    );
    let seen: Value = serde_json::from_str(&succeeds(&bed.gantry(&["inspect", "@c"]))).unwrap();
    let resources = &seen["config"]["linux"]["resources"];
    assert_eq!(resources["cpu"], json!({ "quota": 50_000, "period": 100_000 }));
    assert_eq!(
        (&resources["pids"]["limit"], &resources["memory"]["limit"]),
        (&40.into(), &(64 << 20).into())
    );
    succeeds(&bed.gantry(&["kill", "-9", "@c"]));
    assert_eq!(succeeds(&bed.gantry(&["wait", "@c"])), "137\n");
    let none = output(&bed.run(&["--device", "/etc/passwd"], "c", &["true"]));
    assert_eq!(stderr(&none), "gantry: --device: /etc/passwd is no device\n");
    bed.finish().await;
}

#[tokio::test]
async fn an_image_has_the_same_options() {
    let Some(bed) = Bed::make(Runc).await else { return };
    NewImage::busybox(&bed).put(&bed, &namespace(&bed), "box").await;
    let file = bed.server.work().join("env");
    fs::write(&file, "# of a file\nA=file\nB=file\nHERE\n").unwrap();
    let file = file.to_str().unwrap();
    let options = [
        "--name",
        "c",
        "--env-file",
        file,
        "-e",
        "B=option",
        "-w",
        "/bin",
        "--label",
        "tier=back",
        "--cap-drop",
        "ALL",
        "--read-only",
        "--tmpfs",
        "/tmp",
    ];
    let script = "echo $FROM $A $B $HERE; pwd; grep Cap /proc/self/status | cut -f 2 | sort -u; grep -w Seccomp /proc/self/status";
    let command = run(&bed, &[&options[..], &["box", "sh", "-c", script]].concat());
    let mut with_variable = Command::new("env");
    with_variable.arg("HERE=here").arg(command.get_program()).args(command.get_args());
    let said = succeeds(&with_variable);
    assert_eq!(said, "image file option here\n/bin\n0000000000000000\nSeccomp:\t2\n");
    assert_eq!(succeeds(&gantry(&bed, "ps", &["-q", "--filter", "label=tier=back"])), "c\n");
    succeeds(&gantry(&bed, "rm", &["c"]));
    let bad = output(&run(&bed, &["--security-opt", "seccomp=/no/such", "box", "true"]));
    assert_eq!(bad.status.code(), Some(125), "{bad:?}");
    assert_eq!(stderr(&bad).matches("gantry: ").count(), 1, "{bad:?}");
    finish(bed).await;
}

#[rstest]
#[tokio::test]
async fn an_own_bundle_is_run_as_it_is(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(bed) = Bed::make(runtime).await else { return };
    // One that was written for another container, with a root beside it.
    succeeds(&bed.run(&[], "model", &["true"]));
    let model = Path::new(BUNDLES).join(bed.id("model"));
    let own = bed.server.work().join("own");
    fs::create_dir(&own).unwrap();
    let config = fs::read(model.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    config["process"]["args"] = json!(["sh", "-c", "echo of the file; exit 6"]);
    config["root"]["path"] = "../rootfs".into();
    fs::write(own.join("config.json"), config.to_string()).unwrap();
    let command = |options: &[&str]| {
        let fixed = ["run", "--rm", "--bundle", own.to_str().unwrap()];
        output(&bed.gantry(&[&fixed, options, &["@c"]].concat()))
    };
    let run = command(&[]);
    assert_eq!((run.status.code(), stdout(&run)), (Some(6), "of the file\n"), "{run:?}");
    assert!(own.join("config.json").exists());
    let refused = command(&["-m", "64m"]);
    assert_eq!(refused.status.code(), Some(125), "{refused:?}");
    let terminal = command(&["-t"]);
    assert!(stderr(&terminal).contains("process.terminal is not true"), "{terminal:?}");
    bed.finish().await;
}
