//! How far something has come: on a terminal, bars that are drawn over; elsewhere, a line for each step.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use crate::{output, terminal};

/// Between two drawings.
const PAUSE: Duration = Duration::from_millis(100);

/// Characters of a bar.
const WIDTH: usize = 24;

/// Things that are under way, on standard error.
#[derive(Debug)]
pub(crate) struct Bars {
    is_terminal: bool,
    bars: Vec<Bar>,
    /// Lines on the terminal that the next drawing replaces.
    drawn: usize,
    last: Option<Instant>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bar {
    name: String,
    state: String,
    done: u64,
    /// None if it is not known.
    total: Option<u64>,
}

impl Bars {
    pub(crate) fn new() -> Bars {
        let is_terminal = io::stderr().is_terminal();
        Bars { is_terminal, bars: Vec::new(), drawn: 0, last: None }
    }

    /// Something is in this state now.
    pub(crate) fn set(&mut self, name: &str, state: &str, done: u64, total: Option<u64>) {
        let (name, state) = (name.to_owned(), state.to_owned());
        let now = Bar { name, state, done, total };
        let place = self.bars.iter_mut().find(|bar| bar.name == now.name);
        let is_news = place.as_ref().is_none_or(|bar| bar.state != now.state);
        if !self.is_terminal {
            if is_news {
                say(&format!("{}: {}\n", now.name, now.state));
            }
        } else if is_news || self.last.is_none_or(|last| last.elapsed() >= PAUSE) {
            self.last = None;
        }
        match place {
            Some(bar) => *bar = now,
            None => self.bars.push(now),
        }
        if self.is_terminal && self.last.is_none() {
            self.draw();
        }
    }

    #[cfg(test)]
    pub(crate) fn names(&self) -> Vec<&str> {
        self.bars.iter().map(|bar| &*bar.name).collect()
    }

    /// Draws it for the last time.
    pub(crate) fn finish(mut self) {
        if self.is_terminal && !self.bars.is_empty() {
            self.draw();
        }
    }

    fn draw(&mut self) {
        let (columns, rows) = match terminal::size() {
            Some(size) => (size.width as usize, size.height as usize),
            None => (80, 24),
        };
        // What does not fit would scroll, and could not be drawn over.
        let hidden = self.bars.len().saturating_sub(rows.saturating_sub(1));
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A", self.drawn));
        }
        for bar in &self.bars[hidden..] {
            let line: String = bar.line().chars().take(columns.saturating_sub(1)).collect();
            text.push_str(&format!("\r\x1b[K{line}\n"));
        }
        say(&text);
        self.drawn = self.bars.len() - hidden;
        self.last = Some(Instant::now());
    }
}

impl Bar {
    fn line(&self) -> String {
        let Bar { name, state, done, total } = self;
        match total {
            Some(total) if *total > 0 => {
                let filled = usize::try_from(done * WIDTH as u64 / total).unwrap_or(WIDTH);
                let filled = filled.min(WIDTH);
                let (full, empty) = ("=".repeat(filled), " ".repeat(WIDTH - filled));
                let (done, total) = (output::bytes(*done), output::bytes(*total));
                format!("{name:<22} {state:<12} [{full}{empty}] {done} / {total}")
            }
            _ if *done > 0 => format!("{name:<22} {state:<12} {}", output::bytes(*done)),
            _ => format!("{name:<22} {state}"),
        }
    }
}

/// Nothing depends on whether this can be seen.
fn say(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_full_as_what_is_done() {
        let bar = |done, total| {
            Bar { name: "layer".into(), state: "fetching".into(), done, total }.line()
        };
        let half = bar(512, Some(1024));
        assert!(half.contains(&format!("[{}{}]", "=".repeat(12), " ".repeat(12))), "{half}");
        assert!(bar(2048, Some(1024)).contains(&"=".repeat(24)));
        assert!(bar(2048, None).ends_with("2.00KiB"));
        assert!(bar(0, Some(0)).ends_with("fetching"));
    }
}
