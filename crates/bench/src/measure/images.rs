//! Images, in Gantry and in containerd 1.6 in turn, with their content and snapshots on the same disk: unpacked, pulled from
//! a registry on this machine, run, and collected.

use std::{
    io::Read as _,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{Bench, CONTAINERD, GANTRY, since};
use crate::{
    bed::Bed,
    containerd::Containerd,
    images::{Blob, Compression, Image, Images, Registry, layer, layers},
    proc,
    report::{Bound::AtMost, Measure, Versus},
    server::Server,
};

/// containerd has gzip decompressed by unpigz(1) where that is installed.
const WITH_PIGZ: &str = "containerd 1.6 with pigz";

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// What is kept for measurements.
const LEASE: &str = "bench";

/// A server whose files are on the disk.
struct Peer {
    name: &'static str,
    images: Images,
    pid: u32,
}

impl Peer {
    fn is_gantry(&self) -> bool {
        self.name == GANTRY
    }

    /// Has it pull an image, and unpack it: containerd 1.6 has that done by its client.
    async fn pull(&self, reference: &str) -> Result<()> {
        if self.is_gantry() { self.images.pull(reference).await } else { self.ctr_pull(reference) }
    }

    fn ctr_pull(&self, reference: &str) -> Result<()> {
        self.ctr(&["images", "pull", "--plain-http", reference])
    }

    fn ctr(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.images.socket).args(arguments);
        let output = command.output().context("run ctr")?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ctr {arguments:?} on {}: {told}", self.name);
        Ok(())
    }
}

/// All of it. A foreign server is not measured: it has its files elsewhere.
pub(crate) async fn measure(bench: &mut Bench) -> Result<Vec<Measure>> {
    if !bench.server.is_own() || bench.containerd.is_none() {
        return Ok(Vec::new());
    }
    let disk = Bed::on_disk()?;
    let server = Server::start(&disk, "gantryd", &[]).await?;
    let plain = Containerd::start_on(&disk, "containerd", false).await?;
    let pigz = match Command::new("unpigz").arg("--version").output() {
        Ok(_) => Some(Containerd::start_on(&disk, "with-pigz", true).await?),
        Err(_) => None,
    };
    let mut peers = vec![
        Peer { name: GANTRY, images: Images::connect(&server.socket).await?, pid: server.pid },
        Peer {
            name: CONTAINERD,
            images: Images::connect(&plain.socket()).await?,
            pid: plain.pid(),
        },
    ];
    let mut measures = unpacked(bench, &disk, &peers, pigz.as_ref()).await?;
    let registry = Registry::start(disk.work()).await?;
    if let Some(registry) = registry {
        let image = format!("{}/bench/large:1", registry.host);
        store(bench, &disk, &peers[1], &image)?;
        measures.extend(pulled(bench, &peers, &image).await?);
        let small = format!("{}/bench/small:1", registry.host);
        store_small(&disk, &peers[1], &small)?;
        measures.push(run(bench, &disk, &peers, &small).await?);
    }
    // In memory, as the removal of files is not to be measured.
    let Some(containerd) = &bench.containerd else { return Ok(measures) };
    peers[0].images = Images::connect(&bench.server.socket).await?;
    peers[1].images = Images::connect(&containerd.socket()).await?;
    measures.push(collected(bench, &peers).await?);
    Ok(measures)
}

/// A layer is unpacked into a snapshot, and that is committed: Gantry syncs it, containerd does not.
async fn unpacked(
    bench: &Bench,
    disk: &Bed,
    peers: &[Peer],
    pigz: Option<&Containerd>,
) -> Result<Vec<Measure>> {
    let size = if bench.quick { 64 << 20 } else { 1 << 30 };
    let archive = layers(disk.work(), 1, size)?.remove(0);
    // Less than that, where the machine has fewer files.
    let unpacked_size = std::fs::metadata(&archive).context("look at an archive")?.len();
    let mut measures = Vec::new();
    for compression in [Compression::Gzip, Compression::Zstd] {
        let layer = layer(&archive, compression)?;
        let what = format!("unpack {} MiB, {}", unpacked_size >> 20, compression.name());
        let mut measure =
            Measure::new(what, "ms").aim(GANTRY, versus(CONTAINERD), AtMost(1.0 / 1.5));
        let mut subjects: Vec<(&str, Images)> =
            peers.iter().map(|peer| (peer.name, peer.images.clone())).collect();
        if let Some(pigz) = pigz.filter(|_| compression == Compression::Gzip) {
            measure = measure.aim(GANTRY, versus(WITH_PIGZ), AtMost(1.0 / 1.5));
            subjects.push((WITH_PIGZ, Images::connect(&pigz.socket()).await?));
        }
        let data = std::fs::read(&layer.path).context("read a layer")?;
        for (_, images) in &subjects {
            images.lease(LEASE).await?;
            images.write(LEASE, "layer", &layer.digest, &data).await?;
        }
        drop(data);
        for _ in 0..bench.count(7, 2) {
            for (name, images) in &subjects {
                measure.push(name, unpack_once(images, &layer).await?);
            }
        }
        for (_, images) in &subjects {
            images.release(LEASE).await?;
        }
        measures.push(measure);
    }
    Ok(measures)
}

/// Nothing else is to be written meanwhile.
async fn unpack_once(images: &Images, layer: &Blob) -> Result<f64> {
    rustix::fs::sync();
    let begin = Instant::now();
    images.unpack(layer, "unpacked").await?;
    let took = since(begin);
    images.remove("unpacked").await?;
    Ok(took)
}

fn versus(other: &str) -> Versus {
    Versus::Ratio(other.to_owned())
}

/// Has the registry have an image of four layers.
fn store(bench: &Bench, disk: &Bed, by: &Peer, reference: &str) -> Result<()> {
    let size = if bench.quick { 8 << 20 } else { 64 << 20 };
    let archives = layers(disk.work(), 4, size)?;
    let layers = archives.iter().map(|archive| layer(archive, Compression::Gzip));
    let layers = layers.collect::<Result<Vec<_>>>()?;
    push(disk, by, reference, &layers)
}

/// And one of a program.
fn store_small(disk: &Bed, by: &Peer, reference: &str) -> Result<()> {
    let archive = disk.work().join("small.tar");
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(disk.rootfs()).arg("-cf").arg(&archive).arg(".");
    ensure!(tar.status().context("run tar")?.success(), "tar has failed");
    push(disk, by, reference, &[layer(&archive, Compression::Gzip)?])
}

fn push(disk: &Bed, by: &Peer, reference: &str, layers: &[Blob]) -> Result<()> {
    let image = Image::new(disk.work(), reference, layers)?;
    let archive = image.archive.to_str().context("a path")?;
    by.ctr(&["images", "import", "--no-unpack", archive])?;
    by.ctr(&["images", "push", "--plain-http", reference])?;
    by.ctr(&["images", "rm", "--sync", reference])
}

/// An image is pulled and unpacked: how long that takes, and what the servers need meanwhile.
async fn pulled(bench: &Bench, peers: &[Peer], image: &str) -> Result<Vec<Measure>> {
    let size = if bench.quick { 32 } else { 256 };
    let what = format!("{size} MiB in 4 gzip layers");
    let mut time = Measure::new(format!("pull from a loopback registry, {what}"), "ms").aim(
        GANTRY,
        versus(CONTAINERD),
        AtMost(1.0),
    );
    let memory = format!("most memory (PSS) of the server while it pulls {what}");
    let mut memory = Measure::new(memory, "KiB").aim(GANTRY, versus(CONTAINERD), AtMost(1.0));
    for _ in 0..bench.count(7, 2) {
        for peer in peers {
            rustix::fs::sync();
            let begin = Instant::now();
            peer.pull(image).await?;
            time.push(peer.name, since(begin));
            peer.images.forget(image).await?;
        }
    }
    for _ in 0..bench.count(3, 1) {
        for peer in peers {
            let watch = Watch::begin(peer.pid);
            peer.pull(image).await?;
            memory.push(peer.name, watch.end()? as f64);
            peer.images.forget(image).await?;
        }
    }
    Ok(vec![time, memory])
}

/// Looks at the memory of a process again and again.
struct Watch {
    over: Arc<AtomicBool>,
    most: thread::JoinHandle<u64>,
}

impl Watch {
    fn begin(pid: u32) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let most = thread::spawn(move || {
            let mut most = 0;
            while !seen.load(Ordering::Relaxed) {
                most = most.max(proc::private_dirty_and_pss(pid).1);
                thread::sleep(LOOK);
            }
            most
        });
        Self { over, most }
    }

    /// The most KiB that it had.
    fn end(self) -> Result<u64> {
        self.over.store(true, Ordering::Relaxed);
        self.most.join().map_err(|_| anyhow::anyhow!("the watch of memory has failed"))
    }
}

/// From nothing to a container's first output, by the same client on both sides.
async fn run(bench: &Bench, disk: &Bed, peers: &[Peer], image: &str) -> Result<Measure> {
    let what = "ctr pull and run of a small image, from nothing to the first output";
    let mut measure = Measure::new(what, "ms").aim(GANTRY, versus(CONTAINERD), AtMost(1.0));
    for round in 0..bench.count(15, 2) {
        for peer in peers {
            rustix::fs::sync();
            let id = format!("bench-{}-{round}", std::process::id());
            let begin = Instant::now();
            peer.ctr_pull(image)?;
            measure.push(peer.name, first_output(disk, peer, image, &id, begin)?);
            peer.images.forget(image).await?;
        }
    }
    Ok(measure)
}

fn first_output(disk: &Bed, peer: &Peer, image: &str, id: &str, begin: Instant) -> Result<f64> {
    let root = disk.work().join("ctr");
    let mut command = Command::new("ctr");
    command.arg("--address").arg(&peer.images.socket).args(["run", "--rm", "--runc-root"]);
    command.arg(Path::new(&root)).args(["--cgroup", &disk.cgroup_of(id), image, id]);
    command.args(["/bin/busybox", "echo", "here"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("run ctr")?;
    let mut output = child.stdout.take().context("an output")?;
    let mut first = [0];
    output.read_exact(&mut first).with_context(|| format!("output on {}", peer.name))?;
    let took = since(begin);
    let status = child.wait().context("wait for ctr")?;
    ensure!(status.success(), "ctr run on {}: {status}", peer.name);
    Ok(took)
}

/// A lease of many blobs is deleted, and these with it.
async fn collected(bench: &Bench, peers: &[Peer]) -> Result<Measure> {
    let count = bench.count(10_000, 500);
    let what = format!("collection of {count} blobs");
    let mut measure = Measure::new(what, "ms").aim(GANTRY, versus(CONTAINERD), AtMost(1.0));
    for _ in 0..bench.count(3, 1) {
        for peer in peers {
            peer.images.lease(LEASE).await?;
            for number in 0..count {
                let name = format!("blob-{number}");
                peer.images.write(LEASE, &name, "", name.repeat(100).as_bytes()).await?;
            }
            let begin = Instant::now();
            peer.images.release(LEASE).await?;
            measure.push(peer.name, since(begin));
        }
    }
    Ok(measure)
}
