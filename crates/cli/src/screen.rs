//! Readings as people see them: a table that is drawn anew in its place, or one after the other.

use crate::{failure::Failure, output, terminal};

/// Cursor to the corner; a line up to its end, and all below, is erased (ECMA-48).
const HOME: &str = "\x1b[H";
const ERASE_LINE: &str = "\x1b[K";
const ERASE_BELOW: &str = "\x1b[J";
const ERASE_ALL: &str = "\x1b[2J";

/// The narrowest first column that says which container it is.
const LEAST: usize = 12;

/// Where readings go.
#[derive(Debug)]
pub(crate) struct Screen {
    in_place: bool,
    is_new: bool,
}

impl Screen {
    /// In place only if asked for and if standard output is a terminal.
    pub(crate) fn new(in_place: bool) -> Screen {
        Screen { in_place: in_place && terminal::stdout_is_terminal(), is_new: true }
    }

    /// Whether what is drawn takes the place of what was drawn before.
    pub(crate) fn is_in_place(&self) -> bool {
        self.in_place
    }

    /// Columns that lines may have, so that they are not cut off.
    pub(crate) fn width(&self) -> usize {
        if self.in_place { size()[0] } else { usize::MAX }
    }

    /// Draws a table, the first row of which is its head.
    pub(crate) fn draw<const N: usize>(
        &mut self,
        mut rows: Vec<[String; N]>,
    ) -> Result<(), Failure> {
        let is_new = std::mem::take(&mut self.is_new);
        if !self.in_place {
            // One below the other, with one head.
            return match is_new {
                true => output::table(&rows),
                false => output::table(&rows.split_off(1)),
            };
        }
        redraw(is_new, &fitted(&rows, self.width()))
    }

    /// Draws lines. They are cut off where the terminal ends.
    pub(crate) fn draw_lines(&mut self, lines: &[String]) -> Result<(), Failure> {
        let is_new = std::mem::take(&mut self.is_new);
        if !self.in_place {
            return lines.iter().try_for_each(output::line);
        }
        let width = self.width();
        let lines = lines.iter().map(|line| line.chars().take(width).collect());
        redraw(is_new, &lines.collect::<Vec<_>>())
    }
}

/// Columns and lines of the terminal.
fn size() -> [usize; 2] {
    let size = terminal::size().map(|size| [size.width, size.height]);
    size.map_or([usize::MAX; 2], |size| size.map(|it| usize::try_from(it).unwrap_or(usize::MAX)))
}

fn redraw(is_new: bool, lines: &[String]) -> Result<(), Failure> {
    let [_, height] = size();
    let mut text = String::from(if is_new { ERASE_ALL } else { "" }) + HOME;
    // The last line stays empty for the cursor, or all would move up.
    for line in lines.iter().take(height.saturating_sub(1).max(1)) {
        text += line;
        text += ERASE_LINE;
        text += "\r\n";
    }
    output::raw((text + ERASE_BELOW).as_bytes())
}

/// Lines of columns, none longer than the width: the first column becomes narrower, and then the end is cut off.
pub(crate) fn fitted<const N: usize>(rows: &[[String; N]], width: usize) -> Vec<String> {
    let mut widths: [usize; N] =
        std::array::from_fn(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0));
    let total = widths.iter().sum::<usize>() + 2 * N.saturating_sub(1);
    if let Some(first) = widths.first_mut() {
        *first = first.saturating_sub(total.saturating_sub(width)).max(LEAST.min(*first));
    }
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(widths).map(|(cell, width)| {
                let cell: String = cell.chars().take(width).collect();
                format!("{cell:<width$}")
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            line.chars().take(width).collect::<String>().trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_long_as_the_terminal_at_most() {
        let id = "a-very-long-id-of-a-container".to_owned();
        let rows =
            [["ID", "CPU", "PIDS"].map(str::to_owned), [id.clone(), "1.0%".into(), "3".into()]];
        assert_eq!(fitted(&rows, 80)[1], format!("{id}  1.0%  3"));
        assert_eq!(
            fitted(&rows, 30),
            ["ID                  CPU   PIDS", "a-very-long-id-of-  1.0%  3"]
        );
        assert_eq!(fitted(&rows, 14)[1], "a-very-long-");
        assert!(fitted(&rows, 14).iter().all(|line| line.chars().count() <= 14));
    }
}
