//! `gantry import` and `gantry export`.

use std::{fs, os::unix::process::ExitStatusExt, process::Command};

use gantry_tests::Runtime::Runc;
use rustix::process::Signal;

use crate::{
    Bed,
    image::NewImage,
    output,
    run_image::{finish, gantry, leases, namespace, run, snapshots},
    stderr, succeeds, with_input,
};

#[tokio::test]
async fn what_is_exported_is_imported_as_it_was() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let path = |name: &str| bed.server.work().join(name).to_str().unwrap().to_owned();
    let box_name = "docker.io/library/box:latest";
    NewImage::busybox(&bed).put(&bed, &namespace(&bed), box_name).await;
    let layered =
        NewImage::busybox(&bed).layer(&bed, |dir| fs::write(dir.join("f"), "x\n").unwrap());
    layered.put(&bed, &namespace(&bed), "registry.local/other:1").await;
    let of = |command: &str, words: &[&str]| succeeds(&gantry(&bed, command, words));
    let archive = path("archive.tar");
    assert_eq!(of("export", &["-o", &archive, "box", "registry.local/other:1"]), "");
    let through = output(&gantry(&bed, "export", &["box"]));
    assert!(through.status.success(), "{}", stderr(&through));
    of("rmi", &["box", "registry.local/other:1"]);
    assert_eq!(of("images", &["-q"]), "");

    let names = format!("{box_name}\nregistry.local/other:1\n");
    assert_eq!(of("import", &[&archive]), names);
    assert_eq!(of("images", &["-q"]), names);
    assert_eq!(snapshots(&bed).await, 2, "unpacked, and the lower layer once");
    assert_eq!(succeeds(&run(&bed, &["--rm", "registry.local/other:1", "cat", "/f"])), "x\n");
    of("rmi", &["box", "registry.local/other:1"]);
    assert_eq!(snapshots(&bed).await, 0);

    // By standard input, and without unpacking.
    let imported =
        with_input(gantry(&bed, "import", &["--no-unpack", "-"]), through.stdout.clone());
    assert!(imported.status.success(), "{}", stderr(&imported));
    assert_eq!((of("images", &["-q"]), snapshots(&bed).await), (format!("{box_name}\n"), 0));
    assert_eq!(succeeds(&run(&bed, &["--rm", "box"])), "by default\n");

    of("rmi", &["box"]);
    let named = of("import", &["--name", "given", &archive]);
    assert!(named.starts_with("given@sha256:") && named.ends_with(&names), "{named}");

    // What fails leaves the file that was there, and nothing else.
    fs::write(&archive, "precious").unwrap();
    let unknown = output(&gantry(&bed, "export", &["-o", &archive, "box", "unknown"]));
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
    assert!(stderr(&unknown).contains("has no image unknown"), "{unknown:?}");
    let other =
        output(&gantry(&bed, "export", &["-o", &archive, "--platform", "linux/s390x", "box"]));
    assert_eq!(other.status.code(), Some(1), "{other:?}");
    // As does one that is killed: here by the kernel, for a file that gets too large.
    let export = gantry(&bed, "export", &["-o", &archive, "box"]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -c 0; ulimit -f 8; exec \"$0\" \"$@\""]);
    limited.arg(export.get_program()).args(export.get_args());
    let killed = output(&limited);
    let signal = killed.status.signal().or(killed.status.code().map(|code| code - 128));
    assert_eq!(signal, Some(Signal::XFSZ.as_raw()), "{killed:?}");
    assert_eq!(fs::read_to_string(&archive).unwrap(), "precious");
    let beside = fs::read_dir(bed.server.work()).unwrap().flatten();
    let beside = beside.filter(|it| it.file_name().to_string_lossy().starts_with("archive"));
    assert_eq!(beside.count(), 1);
    let nowhere = output(&gantry(&bed, "export", &["-o", "/no/such/file", "box"]));
    assert!(stderr(&nowhere).contains("/no/such/file: No such file"), "{nowhere:?}");

    let half = &through.stdout[..through.stdout.len() / 2];
    for (bytes, words) in [(half, "import -: "), (&b"no archive"[..], "import -: ")] {
        let bad = with_input(gantry(&bed, "import", &["-"]), bytes.to_vec());
        assert_eq!(bad.status.code(), Some(1), "{bad:?}");
        let said = stderr(&bad).lines().filter(|line| line.starts_with("gantry: "));
        assert_eq!(said.filter(|line| line.contains(words)).count(), 1, "{bad:?}");
    }
    let missing = output(&gantry(&bed, "import", &["/no/such/file"]));
    assert_eq!(stderr(&missing), "gantry: /no/such/file: No such file or directory (os error 2)\n");
    assert_eq!(leases(&bed).await, 0);
    finish(bed).await;
}
