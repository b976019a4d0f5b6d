//! What a reference to a container means.

use std::sync::Arc;

use crate::{Error, Result, container::Container};

/// A full id, else a name, else a prefix that fits one id only.
pub(crate) fn find(containers: &[Arc<Container>], reference: &str) -> Result<Arc<Container>> {
    if reference.is_empty() {
        return Err(Error::invalid("reference", "is empty"));
    }
    let by_id = containers.iter().find(|c| c.id() == reference);
    let exact = by_id.or_else(|| containers.iter().find(|c| c.record().name == reference));
    if let Some(container) = exact {
        return Ok(Arc::clone(container));
    }
    let fitting: Vec<_> = containers.iter().filter(|c| c.id().starts_with(reference)).collect();
    match fitting[..] {
        [] => Err(Error::NoSuchContainer(reference.to_owned())),
        [container] => Ok(Arc::clone(container)),
        _ => {
            let describe = |c: &&Arc<Container>| format!("{} ({})", c.id(), c.record().name);
            let candidates = fitting.iter().map(describe).collect();
            Err(Error::Ambiguous { prefix: reference.to_owned(), candidates })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{container::testing, model::Record};
    use std::path::Path;

    fn containers(ids_and_names: &[(&str, &str)]) -> Vec<Arc<Container>> {
        let container = |(id, name): &(&str, &str)| {
            let record = Record::new((*id).to_owned(), (*name).to_owned(), testing::config());
            Arc::new(Container::new(Path::new("/nowhere"), record))
        };
        ids_and_names.iter().map(container).collect()
    }

    fn found(containers: &[Arc<Container>], reference: &str) -> String {
        find(containers, reference).unwrap().id().to_owned()
    }

    #[test]
    fn id_then_name_then_prefix() {
        let all = containers(&[("abc1", "abd2"), ("abd2", "web"), ("f00d", "abc")]);
        assert_eq!(found(&all, "abd2"), "abd2");
        assert_eq!(found(&all, "web"), "abd2");
        assert_eq!(found(&all, "abc"), "f00d");
        assert_eq!(found(&all, "abc1"), "abc1");
        assert_eq!(found(&all, "f"), "f00d");
    }

    #[test]
    fn an_ambiguous_prefix_names_the_candidates() {
        let all = containers(&[("abc1", "one"), ("abd2", "two"), ("f00d", "three")]);
        let error = find(&all, "ab").unwrap_err();
        assert_eq!(error.to_string(), "ab fits several containers: abc1 (one), abd2 (two)");
    }

    #[test]
    fn nothing_else_is_found() {
        let all = containers(&[("abc1", "one")]);
        assert!(matches!(find(&all, "one2"), Err(Error::NoSuchContainer(_))));
        assert!(matches!(find(&all, ""), Err(Error::Invalid { .. })));
    }
}
