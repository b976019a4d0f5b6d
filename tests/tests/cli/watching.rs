//! What runs, what it uses and what happens to it, in namespaces as without.

use std::process::Stdio;

use gantry_tests::{Runtime::Runc, reading::Reading, terminal::Terminal};
use serde_json::json;

use crate::{
    Bed,
    image::NewImage,
    json_lines, output,
    run_image::{finish, gantry, namespace, run},
    stderr, succeeds,
};

const SLEEPERS: [&str; 3] = ["sh", "-c", "sleep 1000000 & sleep 1000001; true"];

#[tokio::test]
async fn processes_and_usage_are_shown_for_all_containers() {
    let Some(bed) = Bed::make(Runc).await else { return };
    NewImage::busybox(&bed).put(&bed, &namespace(&bed), "box").await;
    succeeds(&bed.run(&["-d", "-m", "64m"], "own", &SLEEPERS));
    succeeds(&run(&bed, &[&["-d", "--name", "web", "-m", "32m", "box"], &SLEEPERS[..]].concat()));

    let of_own = succeeds(&bed.gantry(&["top", "--json", "@own"]));
    for rows in [of_own, succeeds(&gantry(&bed, "top", &["--json", "web"]))] {
        let rows = json_lines(&rows);
        let args: Vec<_> = rows.iter().map(|row| row["args"][1].as_str().unwrap()).collect();
        assert_eq!(args, ["-c", "1000000", "1000001"], "{rows:?}");
        for row in &rows[1..] {
            assert_eq!((&row["parent"], &row["uid"]), (&rows[0]["pid"], &0.into()), "{rows:?}");
        }
    }
    let table = succeeds(&bed.gantry(&["top", "@own"]));
    assert!(table.starts_with("PID ") && table.contains("sleep 1000001"), "{table}");

    let limit = |text: &str| json_lines(text).first().map(|row| row["memory_limit"].clone());
    let own = succeeds(&bed.gantry(&["stats", "--no-stream", "--json", "@own"]));
    assert_eq!(limit(&own), Some((64 << 20).into()), "{own}");
    let web = succeeds(&gantry(&bed, "stats", &["--no-stream", "--json", "web"]));
    assert_eq!(limit(&web), Some((32 << 20).into()), "{web}");
    assert_eq!(json_lines(&web)[0]["namespace"], namespace(&bed));
    let all = succeeds(&bed.gantry(&["stats", "--no-stream", "--json", "-A"]));
    assert_eq!(json_lines(&all).len(), 2, "{all}");
    let only = succeeds(&gantry(&bed, "stats", &["--no-stream", "--json"]));
    assert_eq!(json_lines(&only).len(), 1, "{only}");
    // One that has ended and is still there.
    succeeds(&run(&bed, &["-d", "--name", "done", "box", "true"]));
    succeeds(&gantry(&bed, "wait", &["done"]));
    let both = succeeds(&gantry(&bed, "stats", &["--no-stream", "--json"]));
    let both = json_lines(&both);
    assert_eq!((&both[0]["id"], &both[0]["stopped"]), (&"done".into(), &true.into()), "{both:?}");
    assert_eq!((both[0].get("memory"), &both[1]["stopped"]), (None, &false.into()), "{both:?}");
    let table = succeeds(&gantry(&bed, "stats", &["--no-stream", "done", "web"]));
    assert!(table.contains("/done   stopped   --"), "{table}");
    for command in ["stats", "top"] {
        let done = output(&gantry(&bed, command, &["done"]));
        assert_eq!(done.status.code(), Some(1), "{done:?}");
        assert_eq!(stderr(&done), "gantry: nothing runs in container done\n", "{done:?}");
    }
    succeeds(&gantry(&bed, "rm", &["done"]));
    let nobody = output(&gantry(&bed, "stats", &["nobody"]));
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
    assert_eq!(stderr(&nobody).matches("gantry: ").count(), 1, "{nobody:?}");

    // In place on a terminal, and no wider than that.
    let stats = bed.gantry(&["stats", "--interval", "50ms", "@own"]);
    let mut terminal = Terminal::run(&stats, 40, 10);
    terminal.until("\x1b[2J\x1b[H").await;
    for _ in 0..3 {
        terminal.until("\x1b[J\x1b[H").await;
    }
    succeeds(&bed.gantry(&["kill", "-9", "@own"]));
    assert_eq!(terminal.end().await.code(), Some(0));
    succeeds(&run(&bed, &["--name", "ended", "box", "true"]));
    let ended = output(&gantry(&bed, "stats", &["ended"]));
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(stderr(&ended).contains("nothing runs in container ended"), "{ended:?}");
    succeeds(&gantry(&bed, "rm", &["-f", "web", "ended"]));
    let gone = output(&gantry(&bed, "top", &["web"]));
    assert_eq!(gone.status.code(), Some(1), "{gone:?}");
    finish(bed).await;
}

#[tokio::test]
async fn events_of_namespaces_are_followed_across_a_restart() {
    let Some(mut bed) = Bed::make(Runc).await else { return };
    NewImage::busybox(&bed).put(&bed, &namespace(&bed), "box").await;
    let mut command = bed.gantry(&["events", "-A", "--since", "10m", "--json"]);
    let mut all = Reading::of(command.stdout(Stdio::piped()).spawn().unwrap());
    succeeds(&bed.run(&["--rm"], "own", &["true"]));
    all.until(&format!("{}\",\"type\":\"exit\"", bed.id("own"))).await;
    let failed = output(&run(&bed, &["--rm", "--name", "web", "box", "sh", "-c", "exit 3"]));
    assert_eq!(failed.status.code(), Some(3), "{failed:?}");
    let exit = r#""id":"web","type":"exit","pid":"init","status":3"#;
    all.until(exit).await;
    bed.server.kill().await;
    bed.server.start_again().await;
    succeeds(&run(&bed, &["--rm", "--name", "db", "box", "true"]));
    all.until(r#""id":"db","type":"exit""#).await;
    drop(all);

    let stored = succeeds(&gantry(&bed, "events", &["--stored", "--json", "--id", "web"]));
    let rows = json_lines(&stored);
    let types: Vec<_> = rows.iter().map(|row| row["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["create", "start-container", "exit", "delete"], "{stored}");
    assert!(rows.iter().all(|row| row["namespace"] == namespace(&bed)), "{stored}");
    let text = succeeds(&gantry(&bed, "events", &["--stored"]));
    assert!(text.contains(&format!(" {}/db exit pid=init status=0\n", namespace(&bed))), "{text}");
    finish(bed).await;
}

#[tokio::test]
async fn what_is_printed_can_be_json() {
    let Some(bed) = Bed::make(Runc).await else { return };
    NewImage::busybox(&bed).put(&bed, &namespace(&bed), "box").await;
    let version = json_lines(&succeeds(&bed.gantry(&["version", "--json"])));
    assert_eq!(version[0]["gantry"], env!("CARGO_PKG_VERSION"));
    assert!(version[0]["server"]["version"].is_string(), "{version:?}");
    let file = bed.server.work().join("env");
    std::fs::write(&file, "A=file\n").unwrap();
    succeeds(&run(&bed, &["-d", "--name", "web", "box", "sleep", "1000000"]));
    let options = ["--env-file", file.to_str().unwrap(), "-w", "/bin"];
    let exec = [&options[..], &["web", "sh", "-c", "pwd; echo $A"]].concat();
    assert_eq!(succeeds(&gantry(&bed, "exec", &exec)), "/bin\nfile\n");
    succeeds(&gantry(&bed, "kill", &["-9", "web"]));
    let ended = json_lines(&succeeds(&gantry(&bed, "wait", &["--json", "web"])));
    assert_eq!(ended, [json!({ "id": "web", "status": 137 })]);
    let own = namespace(&bed);
    let prune = bed.gantry(&["system", "prune", "--json", "--namespace", &own]);
    let pruned = json_lines(&succeeds(&prune));
    let container = pruned.iter().find(|row| row["kind"] == "container").unwrap();
    assert_eq!((&container["action"], &container["name"]), (&"removed".into(), &"web".into()));
    assert!(pruned.last().unwrap()["freed"].is_u64(), "{pruned:?}");
    let whole = bed.gantry(&["content", "verify", "--json", "--namespace", &own]);
    assert_eq!(succeeds(&whole), "");
    finish(bed).await;
}
