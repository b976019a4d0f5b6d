//! Waiting answers whoever asks, however early, late or badly connected.

use std::time::Duration;

use gantry_client::{Container, Exit, oci_spec::runtime::Spec, types};
use tokio::time::timeout;

use crate::fake::{Creation, Fake, PATIENCE};

async fn wait(container: &Container) -> gantry_client::Result<Exit> {
    timeout(PATIENCE, container.wait()).await.unwrap()
}

#[tokio::test]
async fn an_exit_before_the_answer_of_the_creation_is_not_lost() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    *fake.inner.creation.lock().unwrap() = Creation::ExitsAtOnce(3);
    for _ in 0..3 {
        let create = client.create("web", &fake.bundle()).spec(Spec::default());
        let container = create.start().await.unwrap();
        assert_eq!(wait(&container).await.unwrap().status, 3);
        assert_eq!(wait(&container).await.unwrap().status, 3);
    }
}

#[tokio::test]
async fn who_asks_late_hears_the_last_exit_of_the_id() {
    let fake = Fake::start().await;
    fake.inner.publish("exit", "web/init", 1);
    fake.inner.publish("exit", "other/init", 7);
    fake.inner.publish("exit", "web/init", 2);
    let container = fake.client().await.container("web");
    assert_eq!(wait(&container).await.unwrap().status, 2);
}

#[tokio::test]
async fn a_container_that_never_was_is_not_found() {
    let fake = Fake::start().await;
    let container = fake.client().await.container("web");
    assert!(wait(&container).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn an_attached_wait_ends_with_the_container() {
    let fake = Fake::start().await;
    fake.inner.publish("exit", "web/init", 1);
    fake.inner.add("web", "/bundle", types::Process::default());
    let container = fake.client().await.container("web");
    let (exit, ()) = tokio::join!(wait(&container), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        fake.inner.exit("web", 8);
    });
    assert_eq!(exit.unwrap().status, 8);
}

#[tokio::test]
async fn an_exit_while_the_server_was_away_is_delivered_after_its_return() {
    let mut fake = Fake::start().await;
    let client = fake.client().await;
    let create = client.create("web", &fake.bundle()).spec(Spec::default());
    let container = create.start().await.unwrap();
    fake.stop();
    fake.inner.exit("web", 5);
    fake.serve();
    assert_eq!(wait(&container).await.unwrap().status, 5);
}

#[tokio::test]
async fn an_exit_that_the_server_has_forgotten_is_unknown_and_not_awaited_for_ever() {
    let mut fake = Fake::start().await;
    let client = fake.client().await;
    let create = client.create("web", &fake.bundle()).spec(Spec::default());
    let container = create.start().await.unwrap();
    fake.stop();
    fake.inner.containers.lock().unwrap().clear();
    fake.inner.journal.lock().unwrap().clear();
    fake.serve();
    assert_eq!(wait(&container).await.unwrap().status, 255);
}
