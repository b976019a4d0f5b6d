//! Variables as a process has them: `NAME=value`, each name once.

/// A later value of a variable replaces an earlier one, and is placed after the others.
pub(crate) fn set(env: &mut Vec<String>, variable: String) {
    let name = |variable: &str| variable.split('=').next().map(str::to_owned);
    env.retain(|old| name(old) != name(&variable));
    env.push(variable);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_name_counts() {
        let mut env = vec!["A=1".to_owned(), "AB=2".to_owned()];
        for variable in ["A=3", "C", "A=4=5"] {
            set(&mut env, variable.to_owned());
        }
        assert_eq!(env, ["AB=2", "C", "A=4=5"]);
    }
}
