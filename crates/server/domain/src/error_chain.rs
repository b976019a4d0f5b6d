//! What an error says, with what has caused it.

/// An error with its causes. Errors that show their cause themselves do not repeat it.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| {
        let said = cause.to_string();
        if text.ends_with(&said) { text } else { format!("{text}: {said}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Failed {
        #[error("cannot open it")]
        Silent(#[source] std::io::Error),
        #[error("cannot open it: {0}")]
        Telling(#[source] std::io::Error),
        #[error("cannot start")]
        Outer(#[source] Box<Failed>),
    }

    #[test]
    fn each_cause_is_said_once() {
        let cause = || std::io::Error::other("the disk is full");
        for error in [Failed::Silent(cause()), Failed::Telling(cause())] {
            let outer = Failed::Outer(Box::new(error));
            assert_eq!(chain(&outer), "cannot start: cannot open it: the disk is full");
        }
    }
}
