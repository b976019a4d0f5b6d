//! What holds of every filter.

use std::borrow::Cow;

use proptest::{collection::vec, prelude::*};

use super::{Filter, Filters, Pattern, Selector, Test};

/// Text in which what matters to the scanner is frequent.
fn text() -> impl Strategy<Value = String> {
    let special =
        prop::sample::select("\"\\|/.,=!~ \n\0\t\u{fffd}\u{85}xX0_".chars().collect::<Vec<_>>());
    vec(prop_oneof![special, any::<char>()], 0..12).prop_map(String::from_iter)
}

fn test() -> impl Strategy<Value = Test> {
    prop_oneof![
        Just(Test::Present),
        text().prop_map(Test::Equal),
        text().prop_map(Test::NotEqual),
        text().prop_map(|text| {
            Test::Matches(Pattern::compile(&regex_lite::escape(&text)).unwrap())
        }),
    ]
}

fn filter() -> impl Strategy<Value = Filter> {
    let path = vec(prop_oneof![text(), "[A-Za-z0-9_]{1,8}"], 1..4);
    let selector = (path, test()).prop_map(|(path, test)| Selector { path, test });
    vec(selector, 0..5).prop_map(Filter)
}

/// What the selector means, said in other words.
fn holds(selector: &Selector, field: Option<&str>) -> bool {
    match (&selector.test, field) {
        (Test::Present, field) => field.is_some(),
        (Test::Equal(value), Some(field)) => field == value,
        (Test::Equal(_), None) => false,
        (Test::NotEqual(value), Some(field)) => field != value,
        (Test::NotEqual(value), None) => !value.is_empty(),
        (Test::Matches(pattern), field) => pattern.0.is_match(field.unwrap_or("")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_is_printed_is_parsed_to_the_same(filter in filter()) {
        let printed = filter.to_string();
        prop_assert_eq!(Filter::parse(&printed), Ok(filter), "{}", printed);
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in text()) {
        if let Ok(filter) = Filter::parse(&text) {
            prop_assert_eq!(Filter::parse(&filter.to_string()), Ok(filter));
        }
    }

    #[test]
    fn a_filter_is_all_of_its_selectors_and_a_list_one_of_its_filters(
        filters in vec(filter(), 0..4),
        fields in vec(prop::option::of(text()), 1..4),
    ) {
        // The field that a path leads to depends on its length only.
        let field = |path: &[String]| fields[path.len() % fields.len()].as_deref();
        let of = |filter: &Filter| filter.0.iter().all(|s| holds(s, field(&s.path)));
        let expected = filters.is_empty() || filters.iter().any(of);
        let printed: Vec<_> = filters.iter().map(ToString::to_string).collect();
        let parsed = Filters::parse(&printed).unwrap();
        prop_assert_eq!(parsed.matches(&|path| field(path).map(Cow::Borrowed)), expected);
    }
}
