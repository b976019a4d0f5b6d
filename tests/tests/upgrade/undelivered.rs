//! Exits of the earlier version that no subscriber has received.

use Runtime::Crun;
use gantry_api::event_type;
use gantry_tests::{
    Runtime,
    events::{BEGINNING, listing, stored},
    eventually, leftovers,
};

const COUNT: usize = 30;

/// Fewer than the exits of the earlier version.
const RETAINED: &str = "10";

/// They are kept for the first subscriber, however few events are kept for others.
#[tokio::test]
async fn undelivered_exits_outlive_the_upgrade() {
    let Some(setup) = crate::earlier(Crun) else { return };
    let Some(mut server) = setup.start().await else { return };
    server.service.events.leave();
    let mut ids = Vec::new();
    for number in 0..COUNT {
        let container = server.container(&format!("c{number:02}")).without_pipes();
        ids.push(container.args(&["true"]).create().await.unwrap().id);
    }
    let nothing = || leftovers::in_state(&server.state_dir(), 1).is_empty();
    eventually("they end", nothing).await;
    server.kill().await;
    crate::upgrade(&mut server, &["--retain-count", RETAINED]).await;

    let events = stored(&mut server.service.api(), BEGINNING).await;
    let exits = events.iter().filter(|event| event.r#type == event_type::EXIT);
    let mut exits: Vec<_> = exits.map(|exit| exit.id.as_str()).collect();
    exits.sort_unstable();
    assert_eq!(exits, ids, "{}", listing(&events));
    server.finish().await;
}
