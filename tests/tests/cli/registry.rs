//! `gantry pull` and `gantry push`, with Debian's registry, which wants to know who asks.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
};

use gantry_tests::{Runtime::Runc, eventually, skip};

use crate::{
    Bed,
    image::NewImage,
    output,
    run_image::{finish, gantry, leases, namespace, run, snapshots},
    stderr, stdout, succeeds, with_input,
};

/// Of the Debian package docker-registry.
const PROGRAM: &str = "/usr/bin/docker-registry";

/// `htpasswd -nbB ann secret`
const HTPASSWD: &str = "ann:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// A registry, until it is dropped.
struct Registry {
    child: Child,
    port: u16,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    async fn start(bed: &Bed) -> Self {
        let directory = bed.server.work().join("registry");
        fs::create_dir(&directory).unwrap();
        let path = |name: &str| directory.join(name).display().to_string();
        let config = format!(
            "version: 0.1\nlog: {{ level: info }}\n\
             storage: {{ filesystem: {{ rootdirectory: {} }} }}\n\
             http: {{ addr: \"127.0.0.1:0\", secret: s }}\n\
             auth: {{ htpasswd: {{ realm: r, path: {} }} }}\n",
            path("data"),
            path("htpasswd")
        );
        fs::write(path("htpasswd"), HTPASSWD).unwrap();
        fs::write(path("config.yml"), config).unwrap();
        let log = File::create(path("log")).unwrap();
        let mut command = Command::new(PROGRAM);
        command.arg("serve").arg(path("config.yml")).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().expect("start the registry");
        let mut registry = Self { child, port: 0 };
        eventually("the registry listens", || {
            let log = fs::read_to_string(path("log")).unwrap();
            let port = log
                .split("listening on 127.0.0.1:")
                .nth(1)
                .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
            registry.port = port.unwrap_or(0);
            registry.port != 0
        })
        .await;
        registry
    }
}

#[tokio::test]
async fn what_is_pushed_is_pulled_by_who_may() {
    if !Path::new(PROGRAM).exists() {
        skip("docker-registry is not installed");
        return;
    }
    let Some(bed) = Bed::make(Runc).await else { return };
    let registry = Registry::start(&bed).await;
    let name = format!("127.0.0.1:{}/a/box:1", registry.port);
    let image = NewImage::busybox(&bed)
        .layer(&bed, |dir| fs::write(dir.join("f"), "x\n").unwrap())
        .set("Cmd", serde_json::json!(["cat", "/f"]));
    image.put_whole(&bed, &namespace(&bed), "box").await;
    let with =
        |command: &str, words: &[&str]| gantry(&bed, command, &[&["--plain-http"], words].concat());
    let who = ["-u", "ann:secret"];
    assert_eq!(succeeds(&with("push", &[&who[..], &["box", &name]].concat())), format!("{name}\n"));
    succeeds(&gantry(&bed, "rmi", &["box"]));

    for (user, words) in [(None, "not authorized"), (Some("ann:wrong"), "not authorized")] {
        let user = user.map(|user| ["-u", user]).into_iter().flatten();
        let words_of: Vec<_> = user.chain([&*name]).collect();
        let refused = output(&with("pull", &words_of));
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert_eq!(stderr(&refused).matches("gantry: ").count(), 1, "{refused:?}");
        assert!(stderr(&refused).contains(words), "{refused:?}");
    }
    let pull = with("pull", &["-u", "ann", "--password-stdin", &name]);
    let pulled = with_input(pull, b"secret\n".to_vec());
    assert_eq!(stdout(&pulled), format!("{name}\n"), "{pulled:?}");
    // A line for each step, as standard error is no terminal.
    let steps = stderr(&pulled).lines().filter(|line| line.starts_with("layer "));
    assert_eq!(steps.filter(|line| line.ends_with(": extracted")).count(), 2, "{pulled:?}");
    assert_eq!(snapshots(&bed).await, 2);
    assert_eq!(succeeds(&run(&bed, &["--rm", &name])), "x\n");
    let unknown = format!("127.0.0.1:{}/a/none:1", registry.port);
    let unknown = output(&with("pull", &[&who[..], &[&unknown]].concat()));
    assert!(stderr(&unknown).ends_with(": not found\n"), "{unknown:?}");
    assert_eq!(leases(&bed).await, 0);
    drop(registry);
    finish(bed).await;
}
