//! `gantry top` of the whole server.

use std::{process::ExitCode, time::Duration};

use gantry_client::Client;
use tokio::time::{self, MissedTickBehavior};

use super::{keys::Keys, reading::Reading, report::Report};
use crate::{
    failure::{Failure, Outcome},
    output,
    place::PlaceOption,
    screen::Screen,
};

/// How the server is to be shown.
pub(super) struct Watched {
    pub(super) interval: Duration,
    pub(super) once: bool,
    pub(super) json: bool,
    pub(super) place: PlaceOption,
}

impl Watched {
    pub(super) async fn run(self, client: &Client) -> Outcome {
        let mut screen = Screen::new(!self.once && !self.json);
        let keys = match screen.is_in_place() {
            true => Keys::catch().map_err(|error| Failure::io("read keys", &error))?,
            false => None,
        };
        // Then a signal ends this program, also one that waits for who reads its output.
        let Some(mut keys) = keys else { return self.show(client, &mut screen).await };
        tokio::select! {
            biased;
            code = keys.ended() => Ok(code),
            shown = self.show(client, &mut screen) => shown,
        }
    }

    async fn show(&self, client: &Client, screen: &mut Screen) -> Outcome {
        let is_once = self.once || !self.json && !screen.is_in_place();
        let mut before: Option<Reading> = None;
        let mut ticks = time::interval(self.interval);
        // Who reads slowly wants the next reading in time, not the missed ones in a burst.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = match Reading::take(client, &self.place).await {
                Ok(now) => now,
                // A server that is being restarted is waited for, unless it was never there.
                Err(failure) if failure.is_away() && before.is_some() && !is_once => continue,
                Err(failure) => return Err(failure),
            };
            // What is done in a second needs two readings, so that the first one is not shown.
            if let Some(before) = &before {
                let report = Report::new(before, &now);
                match self.json {
                    true => output::json(&report)?,
                    false => screen.draw_lines(&report.lines(screen.width()))?,
                }
                if is_once {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            before = Some(now);
        }
    }
}
