//! What the client crate promises about kills of the server: its calls are late, and do not fail.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gantry_client::{Client, Container, spec::DefaultSpec};
use gantry_tests::{PATIENCE, Runtime, Server, improves, patiently};
use tokio::{sync::watch, task::JoinHandle};

/// Enough for the time between the begin of a creation and a kill to sweep over all of it.
const KILLS: u64 = 25;
/// Between two such times.
const STEP: Duration = Duration::from_millis(4);

/// What is done over and over meanwhile.
struct Work {
    client: Client,
    over: Arc<AtomicBool>,
    /// How often it was begun.
    begun: watch::Sender<u64>,
}

impl Work {
    fn begin(&self) -> bool {
        self.begun.send_modify(|count| *count += 1);
        !self.over.load(Ordering::Relaxed)
    }

    async fn ask(self) -> gantry_client::Result<()> {
        while self.begin() {
            self.client.state().await?;
            self.client.server_version().await?;
        }
        Ok(())
    }
}

/// A call that is begun again and again, and the count of it.
struct Going {
    task: JoinHandle<gantry_client::Result<()>>,
    begun: watch::Receiver<u64>,
}

impl Going {
    fn start<F>(client: &Client, over: &Arc<AtomicBool>, work: impl FnOnce(Work) -> F) -> Self
    where
        F: Future<Output = gantry_client::Result<()>> + Send + 'static,
    {
        let (sender, begun) = watch::channel(0);
        let work = work(Work { client: client.clone(), over: Arc::clone(over), begun: sender });
        Self { task: tokio::spawn(work), begun }
    }

    /// Waits until it has been begun once more.
    async fn goes_on(&mut self) {
        let now = *self.begun.borrow_and_update();
        let more = self.begun.wait_for(|count| *count > now);
        // It ends only if a call has failed: `end` says which.
        let _ = patiently("a further call", more).await.map(drop);
    }

    async fn end(self) {
        patiently("the last call", self.task).await.expect("no panic").expect("no failure");
    }
}

/// Containers that run for a moment, one after the other.
async fn run_containers(
    work: Work,
    server: (std::path::PathBuf, String),
) -> gantry_client::Result<()> {
    let (dir, cgroup) = server;
    let mut number = 0;
    while work.begin() {
        let id = format!("c{number}");
        let args = ["sh", "-c", "exit 7"].map(str::to_owned);
        let spec =
            DefaultSpec::new(dir.join("rootfs"), args).cgroups_path(format!("{cgroup}/{id}"));
        let create = work.client.create(&id, &dir.join(&id)).spec(spec.build().expect("a spec"));
        let container: Container = create.start().await?;
        assert_eq!(container.wait().await?.status, 7, "of {id}");
        container.remove_bundle()?;
        number += 1;
    }
    Ok(())
}

/// Execs in a container that lives through all of it.
async fn run_execs(work: Work, container: Container) -> gantry_client::Result<()> {
    let mut number = 0;
    while work.begin() {
        let args = ["sh", "-c", "exit 8"].map(str::to_owned).into();
        let exec = container.exec_like_init(&format!("e{number}"), args).await?;
        let process = exec.start().await?;
        assert_eq!(process.wait().await?.status, 8);
        container.stats().await?;
        number += 1;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_of_a_client_fails_when_the_server_is_killed() {
    if improves("the original loses what it was starting") {
        return;
    }
    let Some(mut server) = Server::own(Runtime::Runc).await else { return };
    let client = Client::connect(&server.service.socket, PATIENCE).await.expect("connect");
    let place = (server.work().to_owned(), server.service.cgroup.clone());
    let _long = server.container("long").create().await.expect("create");
    let long = client.container("long");

    let over = Arc::default();
    let mut asking = Going::start(&client, &over, Work::ask);
    let mut running = Going::start(&client, &over, |work| run_containers(work, place));
    let mut in_there = Going::start(&client, &over, |work| run_execs(work, long.clone()));
    for kill in 0..KILLS {
        asking.goes_on().await;
        in_there.goes_on().await;
        running.goes_on().await;
        // Not to wait for something: the kill is to come at another point of the start each time.
        tokio::time::sleep(STEP * u32::try_from(kill).expect("few")).await;
        server.kill().await;
        server.start_again().await;
    }
    over.store(true, Ordering::Relaxed);
    for going in [asking, running, in_there] {
        going.end().await;
    }
    long.signal(gantry_client::Signal::KILL).await.expect("kill");
    patiently("the exit", long.wait()).await.expect("wait");
    server.finish().await;
}
