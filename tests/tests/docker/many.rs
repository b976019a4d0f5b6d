//! Many containers at once.

use gantry_tests::PATIENCE;

use crate::dockerd::{Docker, IMAGE, SERVICE};

/// How many.
const COUNT: usize = 50;

#[tokio::test]
async fn fifty_containers_start_and_end_at_once() {
    let docker = Docker::start().await;
    let names: Vec<_> = (0..COUNT).map(|n| format!("service-{n}")).collect();
    let start = |name: &String| {
        let run = ["run", "--detach", "--name", name, IMAGE, "sh", "-c", SERVICE];
        docker.in_background(&run, &format!("{name}.log"))
    };
    let mut clients: Vec<_> = names.iter().map(start).collect();
    for client in &mut clients {
        assert_eq!(client.code_within(PATIENCE).await, Some(0), "{}", client.output());
    }
    assert_eq!(docker.running().len(), COUNT);
    let all: Vec<_> = names.iter().map(String::as_str).collect();
    let (first, second) = all.split_at(COUNT / 2);
    docker.prints(first[0], "ready").await;
    // One command kills them one by one; what ends by itself does so at any time in between.
    let execs = first
        .iter()
        .map(|name| docker.in_background(&["exec", name, "touch", "/go"], &format!("{name}.exec")));
    let mut execs: Vec<_> = execs.collect();
    docker.ok(&[&["kill"], second].concat());
    for exec in &mut execs {
        // The container ends once there is the file, and whoever has made it may not have ended by then.
        let code = exec.code_within(PATIENCE).await;
        assert!(matches!(code, Some(0 | 137)), "{code:?}: {}", exec.output());
    }
    let codes = docker.ok(&[&["wait"], &all[..]].concat());
    let expected: Vec<_> = [["6"; COUNT / 2], ["137"; COUNT / 2]].concat();
    assert_eq!(codes.lines().collect::<Vec<_>>(), expected);
    docker.finish().await;
}
