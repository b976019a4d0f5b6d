//! `gantry system df` and `gantry system prune`.

use std::{fs, os::unix::fs::symlink, process::Stdio};

use gantry_api::containerd::{
    content::{WriteAction, WriteContentRequest, content_client::ContentClient},
    images::{CreateImageRequest, GetImageRequest, Image, images_client::ImagesClient},
    leases::{AddResourceRequest, CreateRequest, Resource, leases_client::LeasesClient},
};
use gantry_tests::{Runtime::Runc, processes, reading::Reading};
use rustix::process::Signal;

use crate::{
    Bed,
    image::NewImage,
    json_lines, output,
    run_image::{finish, gantry, has_container, leases, namespace, of, run, snapshots},
    stderr, succeeds,
};

/// The rows of a table in words.
fn rows(table: &str) -> Vec<Vec<&str>> {
    table.lines().map(|row| row.split_whitespace().collect()).collect()
}

/// COUNT, SIZE and UNHELD of a kind.
fn sum<'a>(table: &'a str, kind: &str) -> [&'a str; 3] {
    let rows = rows(table);
    let row = rows.iter().find(|row| row.get(1) == Some(&kind)).expect("a row");
    [row[2], row[3], row[4]]
}

async fn lease(bed: &Bed, id: &str, directory: &str) {
    let label = ("gantry.run/directory".to_owned(), directory.to_owned());
    let request = CreateRequest { id: id.to_owned(), labels: [label].into() };
    LeasesClient::new(bed.server.service.channel()).create(of(bed, request)).await.unwrap();
}

/// Has a lease keep something.
async fn hold(bed: &Bed, lease: &str, kind: &str, id: &str) {
    let resource = Some(Resource { id: id.to_owned(), r#type: kind.to_owned() });
    let request = AddResourceRequest { id: lease.to_owned(), resource };
    LeasesClient::new(bed.server.service.channel()).add_resource(of(bed, request)).await.unwrap();
}

/// A further name of the image `box`.
async fn name(bed: &Bed, name: &str, label: Option<(&str, &str)>) {
    let mut images = ImagesClient::new(bed.server.service.channel());
    let request = of(bed, GetImageRequest { name: "box".to_owned() });
    let image = images.get(request).await.unwrap().into_inner().image.unwrap();
    let label = label.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let labels = label.into_iter().collect();
    let image =
        Some(Image { name: name.to_owned(), labels, target: image.target, ..Image::default() });
    let request = of(bed, CreateImageRequest { image, source_date_epoch: None });
    images.create(request).await.unwrap();
}

/// Leaves a write of content in the middle.
async fn write(bed: &Bed, reference: &str, data: &[u8]) {
    let message = WriteContentRequest {
        action: WriteAction::Write.into(),
        r#ref: reference.to_owned(),
        data: data.to_vec(),
        ..WriteContentRequest::default()
    };
    let request = of(bed, tokio_stream::once(message));
    let mut client = ContentClient::new(bed.server.service.channel());
    let mut answers = client.write(request).await.unwrap().into_inner();
    while answers.message().await.unwrap().is_some() {}
}

#[tokio::test]
async fn what_is_used_is_told_with_its_holders() {
    let Some(bed) = Bed::make(Runc).await else { return };
    assert!(succeeds(&bed.gantry(&["system", "df"])).ends_with("total: 0B\n"));
    NewImage::busybox(&bed).put(&bed, &namespace(&bed), "box").await;
    let df = succeeds(&bed.gantry(&["system", "df"]));
    assert_eq!(rows(&df)[0], ["NAMESPACE", "KIND", "COUNT", "SIZE", "UNHELD"]);
    assert_eq!(sum(&df, "images")[0], "1");
    assert_eq!(sum(&df, "content")[0], "4");
    assert_eq!(sum(&df, "layers"), ["0", "0B", "0B"]);

    let script = "head -c 1048576 /dev/zero > /file; echo written; sleep 1000000";
    let mut command = run(&bed, &["--name", "web", "box", "sh", "-c", script]);
    let mut web = Reading::of(command.stdout(Stdio::piped()).spawn().unwrap());
    web.until("written\n").await;
    write(&bed, "part", &[b'x'; 3000]).await;
    let df = succeeds(&bed.gantry(&["system", "df"]));
    assert_eq!(sum(&df, "layers")[0], "1", "{df}");
    let [count, size, unheld] = sum(&df, "containers");
    assert_eq!((count, &size[..3], unheld), ("1", "1.0", "0B"), "{df}");
    assert_eq!(sum(&df, "writes"), ["1", "2.93KiB", "0B"]);

    let objects = json_lines(&succeeds(&bed.gantry(&["system", "df", "--json"])));
    let held_by = |kind: &str| -> Vec<String> {
        let of_kind = objects.iter().filter(|object| object["kind"] == kind);
        of_kind.map(|object| object["held_by"].to_string()).collect()
    };
    assert_eq!(held_by("content"), [r#"["image box"]"#; 4]);
    let mut snapshots = held_by("snapshot");
    snapshots.sort();
    assert_eq!(snapshots, [r#"["container web"]"#, r#"["image box","container web"]"#]);
    let verbose = succeeds(&bed.gantry(&["system", "df", "-v"]));
    assert!(verbose.contains("image box, container web\n"), "{verbose}");
    let other = succeeds(&bed.gantry(&["system", "df", "--namespace", "other"]));
    assert_eq!(sum(&other, "images"), ["0", "0B", "0B"]);
    succeeds(&gantry(&bed, "rm", &["-f", "web"]));
    assert_eq!(web.end().await, Some(137));
    finish(bed).await;
}

#[tokio::test]
async fn what_nobody_needs_is_removed() {
    let Some(bed) = Bed::make(Runc).await else { return };
    NewImage::busybox(&bed).put(&bed, &namespace(&bed), "box").await;
    NewImage::busybox(&bed)
        .layer(&bed, |dir| fs::write(dir.join("f"), "x").unwrap())
        .put(&bed, &namespace(&bed), "unused")
        .await;
    succeeds(&run(&bed, &["--name", "ended", "box", "touch", "/file"]));
    succeeds(&run(&bed, &["-d", "--name", "running", "box", "sleep", "1000000"]));
    // A command that is killed leaves its container running.
    let mut command =
        run(&bed, &["--rm", "--name", "left", "box", "sh", "-c", "echo up; sleep 1000000"]);
    let mut left = Reading::of(command.stdout(Stdio::piped()).spawn().unwrap());
    left.until("up\n").await;
    let during = succeeds(&gantry_system(&bed, &["--dry-run"]));
    let is_left = |row: &Vec<&str>| row.get(3..5) == Some(&["left", "it"]) && row[0] == "stays";
    assert!(rows(&during).iter().any(is_left), "{during}");
    processes::signal(left.pid(), Signal::KILL);
    assert_eq!(left.end().await, None);
    kill(&bed, "left").await;
    // And one that was killed while it unpacked, a lease.
    let directory = format!("/run/gantry-cli/tasks/{}", namespace(&bed));
    lease(&bed, "killed", &format!("{directory}/gone")).await;
    lease(&bed, "others", "/elsewhere/gone").await;
    write(&bed, "part", b"abc").await;
    name(&bed, "pinned", Some(("io.cri-containerd.pinned", "pinned"))).await;
    name(&bed, "leased", None).await;
    hold(&bed, "others", "images", "leased").await;

    let ns = namespace(&bed);
    let elsewhere = succeeds(&gantry_system(&bed, &["--dry-run", "--images"]));
    assert!(!rows(&elsewhere).iter().any(|row| row.contains(&"image")), "{elsewhere}");
    let dry = succeeds(&gantry_system(&bed, &["--dry-run", "--images", "--namespace", &ns]));
    let fates = |table: &str| -> Vec<String> {
        let rows = rows(table);
        let mut fates: Vec<_> = rows
            .iter()
            .filter_map(|row| match row[..2] {
                ["would", "go"] => Some(format!("goes {}", row[4])),
                ["stays", _] => Some(format!("stays {}", row[3])),
                _ => None,
            })
            .collect();
        fates.sort();
        fates
    };
    let expected = [
        "goes ended",
        "goes killed",
        "goes left",
        "goes unused",
        "stays box",
        "stays leased",
        "stays others",
        "stays part",
        "stays pinned",
        "stays running",
    ];
    assert_eq!(fates(&dry), expected, "{dry}");
    assert_eq!((snapshots(&bed).await, leases(&bed).await), (4, 2), "nothing has changed");

    let pruned = succeeds(&gantry_system(&bed, &[]));
    let rows_of_pruned = rows(&pruned);
    let removed = rows_of_pruned.iter().filter(|row| row[0] == "removed").map(|row| row[3]);
    assert_eq!(removed.collect::<Vec<_>>(), ["ended", "left", "killed"], "{pruned}");
    assert!(pruned.lines().last().unwrap().starts_with("freed "), "{pruned}");
    assert!(!has_container(&bed, "ended").await && !has_container(&bed, "left").await);
    assert_eq!((snapshots(&bed).await, leases(&bed).await), (2, 1));
    // What cannot be removed is told at the end.
    let strange = format!("{directory}/a b");
    symlink("/no/such/directory", &strange).unwrap();
    let failed = output(&gantry_system(&bed, &[]));
    fs::remove_file(&strange).unwrap();
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert!(stderr(&failed).contains("a b"), "{failed:?}");
    let pruned = succeeds(&gantry_system(&bed, &["--images", "--namespace", &ns]));
    // Index, manifest, configuration and layer of the one image.
    assert!(pruned.ends_with(" in 4 objects\n"), "{pruned}");
    assert_eq!(succeeds(&gantry(&bed, "images", &["-q"])), "box\nleased\npinned\n");
    let nothing = succeeds(&gantry_system(&bed, &["--dry-run"]));
    assert!(nothing.ends_with("would free 0B in 0 objects\n"), "{nothing}");
    succeeds(&gantry(&bed, "rm", &["-f", "running"]));
    let unknown = output(&bed.gantry(&["system", "prune", "--nonsense"]));
    assert!(stderr(&unknown).contains("--nonsense"), "{unknown:?}");
    finish(bed).await;
}

fn gantry_system(bed: &Bed, arguments: &[&str]) -> std::process::Command {
    bed.gantry(&[&["system", "prune"], arguments].concat())
}

/// Kills what runs in a container, and waits for that.
async fn kill(bed: &Bed, id: &str) {
    use gantry_api::containerd::tasks::{KillRequest, WaitRequest, tasks_client::TasksClient};
    let mut tasks = TasksClient::new(bed.server.service.channel());
    let container_id = id.to_owned();
    let request = KillRequest { container_id, signal: 9, ..KillRequest::default() };
    tasks.kill(of(bed, request)).await.unwrap();
    let request = WaitRequest { container_id: id.to_owned(), ..WaitRequest::default() };
    tasks.wait(of(bed, request)).await.unwrap();
}
