//! Overlays whose options exceed a page.

use super::*;

/// The most that the kernel takes, `OVL_MAX_STACK`.
const MOST: usize = 500;

/// Layers at long paths, each with a file of its own; the options of a mount(2) without an end.
fn options(bundle: &Bundle, name: impl Fn(usize) -> String) -> Vec<String> {
    let layers = (0..MOST).map(|number| bundle.file(&name(number), &format!("file{number}")));
    let layers: Vec<String> = layers.collect();
    vec![
        format!("workdir={}", bundle.dir("work")),
        format!("upperdir={}", bundle.dir("upper")),
        format!("lowerdir={}", layers.join(":")),
        "index=off".to_owned(),
    ]
}

/// `shown` is the first layer as the table of mounts has it.
fn check(bundle: &Bundle, mut options: Vec<String>, shown: &str, names: impl Fn(usize) -> String) {
    let here = std::env::current_dir().unwrap();
    let views = [options.clone(), {
        options.drain(..2);
        options
    }];
    for (view, options) in views.into_iter().enumerate() {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let mount = a("overlay", "overlay", &[&options[..], &["nosuid"]].concat());
        bundle.mount(&[mount]).unwrap();
        for number in [0, 1, MOST / 2, MOST - 1] {
            assert_eq!(bundle.seen(&format!("file{number}")), names(number));
        }
        let written = fs::write(bundle.rootfs().join("new"), "x");
        assert_eq!(written.is_ok(), view == 0);
        let line = bundle.line("");
        let expected = [" rw,nosuid,relatime ", shown];
        assert!(expected.iter().all(|part| line.contains(part)), "{}", &line[..999]);
        bundle.unmount().unwrap();
    }
    assert!(bundle.dir.join("upper/new").exists());
    // The directory of the process, which all its other threads share.
    assert_eq!(std::env::current_dir().unwrap(), here);
}

#[test]
fn names_that_are_short_below_a_long_path() {
    with_bundle(|bundle| {
        let parent = "s".repeat(200);
        let name = |number: usize| format!("{parent}/{number}/f");
        let options = options(bundle, name);
        assert!(options[2].len() > 100_000);
        check(bundle, options, ",lowerdir=0/f:1/f:", name);
    });
}

#[test]
fn names_that_are_too_long_together() {
    with_bundle(|bundle| {
        let name = |number: usize| format!("snapshots/{number:060}/fs");
        let first = format!(",lowerdir+={}/{},", bundle.dir.display(), name(0));
        check(bundle, options(bundle, name), &first, name);
    });
}

#[test]
fn each_name_longer_than_the_kernel_takes_in_one() {
    with_bundle(|bundle| {
        let name = |number: usize| format!("{number:0150}/{}", "x".repeat(150));
        check(bundle, options(bundle, name), ",lowerdir+=/proc/thread-self/fd/", name);
    });
}

#[test]
fn names_with_colons_commas_and_backslashes() {
    with_bundle(|bundle| {
        // As many as make it long, and one that has to be written with backslashes.
        for filler in [6, 60] {
            let odd = bundle.file("snap/a:b,c\\d", "odd");
            let odd = odd.replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,");
            let layers = (0..400).map(|number| bundle.dir(&format!("snap/{number:0filler$}")));
            let layers: Vec<String> = layers.collect();
            let lower = format!("lowerdir={odd}:{}", layers.join(":"));
            bundle.mount(&[a("overlay", "overlay", &[&lower])]).unwrap();
            assert_eq!(bundle.seen("odd"), "snap/a:b,c\\d");
            bundle.unmount().unwrap();
        }
    });
}

#[test]
fn a_layer_that_is_missing_or_one_too_many() {
    with_bundle(|bundle| {
        for width in [1, 60] {
            let mut layers: Vec<String> = (0..MOST)
                .map(|number| bundle.dir(&format!("{}/{number:0width$}", "s".repeat(100))))
                .collect();
            layers[7].push_str("-none");
            let lower = format!("lowerdir={}", layers.join(":"));
            let error = bundle.mount(&[a("overlay", "overlay", &[&lower])]).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("number 1") && text.contains("No such file"), "{text}");
            layers[7] = bundle.dir("seven");
            layers.push(bundle.dir("beyond"));
            let lower = format!("lowerdir={}", layers.join(":"));
            bundle.mount(&[a("overlay", "overlay", &[&lower])]).unwrap_err();
            assert_eq!(bundle.mounted().len(), 0);
        }
    });
}

#[test]
fn only_an_overlay_can_be_shortened() {
    with_bundle(|bundle| {
        let long = format!("context={}", "x".repeat(5000));
        let error = bundle.mount(&[a("tmpfs", "tmpfs", &[&long])]).unwrap_err();
        let MountProblem::TooLong { length, .. } = error.problem else { panic!("{error}") };
        assert_eq!(length, 5008);
    });
}

/// A thread for each, and nothing of it left.
#[test]
fn many_one_after_the_other() {
    with_bundle(|bundle| {
        let parent = "s".repeat(200);
        let options = options(bundle, |number| format!("{parent}/{number}/f"));
        let options = [&*options[2]];
        let threads = || fs::read_dir("/proc/self/task").unwrap().count();
        let before = threads();
        for _ in 0..20 {
            bundle.mount(&[a("overlay", "overlay", &options)]).unwrap();
            bundle.unmount().unwrap();
        }
        // Tests beside this one may have threads too.
        assert!(threads() < before + 20);
    });
}
