//! What containerd was seen to match and to refuse.

use std::{borrow::Cow, collections::BTreeMap};

use super::{Filters, MAX_LENGTH, MAX_PATTERN_LENGTH, MAX_PATTERNS, field, label};

struct Object {
    name: &'static str,
    labels: BTreeMap<String, String>,
}

fn object(name: &'static str, labels: &[(&str, &str)]) -> Object {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Object { name, labels: labels.collect() }
}

impl Object {
    fn field(&self, path: &[String]) -> Option<Cow<'_, str>> {
        match path[0].as_str() {
            "name" => field(self.name),
            "labels" => label(&self.labels, &path[1..]),
            _ => None,
        }
    }
}

fn is_listed(object: &Object, filters: &[&str]) -> bool {
    Filters::parse(filters).unwrap().matches(&|path| object.field(path))
}

fn error(filter: &str) -> String {
    Filters::parse(&[filter]).unwrap_err().to_string()
}

#[test]
fn what_matches() {
    let labels = [
        ("foo", "true"),
        ("a.b/c", "x y"),
        ("moby/prune.images", "1"),
        ("with \\ and \".post", "p"),
        ("empty", ""),
    ];
    let object = object("/tasks/start", &labels);
    for filter in [
        "",
        "name",
        "labels.foo",
        r#"name=="/tasks/start""#,
        "name~=|^/tasks/|",
        "name ~= |^/tasks/|",
        r"name~=/^\/tasks\//",
        r#"name~="^/tasks/[a-z]{5}$""#,
        "name~=tasks.start",
        "name!=x,labels.foo==true",
        "name!=x, labels.foo==true",
        "\tname!=x,\nlabels.foo  ==  true",
        r#"labels."moby/prune.images""#,
        r#"labels."moby/prune".images==1"#,
        r#"labels.a."b/c"=="x y""#,
        r#"labels."a.b/c"=="x y""#,
        r#"labels."with \\ and \"".post==p"#,
        r#"labels."\x66\157\u006f"=="\U00000074rue""#,
        "labels.empty",
        r#"labels.empty=="""#,
        "labels.none!=x",
        "labels.none~=^$",
        "other~=^$",
        "labels.foo==true,name~=s.s|t",
        r#"labels.foo~=|t\|x|"#,
        r#"labels.foo~=|^\\w+$|"#,
    ] {
        assert!(is_listed(&object, &[filter]), "{filter}");
        assert!(is_listed(&object, &["name==x", filter]), "{filter}");
    }
    for filter in [
        "nothing",
        "labels.none",
        "labels",
        "name.x==y",
        r#"labels.none=="""#,
        r#"labels.none!="""#,
        "labels.foo==True",
        "labels.foo==true,labels.none",
        r#"labels.empty!="""#,
        "labels.foo!=true",
        "name~=^tasks",
    ] {
        assert!(!is_listed(&object, &[filter]), "{filter}");
        assert!(!is_listed(&object, &["name==x", filter]), "{filter}");
        assert!(is_listed(&object, &[filter, ""]), "{filter}");
    }
    assert!(is_listed(&object, &[]));
}

#[test]
fn what_is_refused_says_where() {
    for (filter, message) in [
        ("name==foo,", "[name==foo,]: expected field or quoted"),
        ("labels.", "[labels.]: expected field or quoted"),
        ("labels.?x", "[labels. >|?|< x]: expected field or quoted"),
        ("image~=,id?=?fbaq", "[image~= >|,|< id?=?fbaq]: expected value or quoted"),
        ("labels.ns/key==v", "[labels.ns >|/|< key==v]: quoted literal not terminated"),
        ("labels.key==/value", "[labels.key== >|/|< value]: quoted literal not terminated"),
        ("labels.|foo|==x", "[labels. >|||< foo|==x]: invalid quote encountered"),
        ("name==/x/", "[name== >|/|< x/]: invalid quote encountered"),
        ("name=x", r#"[name >|=|< x]: unsupported operator "=""#),
        ("name===x", r#"[name >|=|< ==x]: unsupported operator "===""#),
        ("name ", r#"[name ]: expected an operator ("=="|"!="|"~=")"#),
        ("name==x ,id", "[name==x >| |< ,id]: unexpected input:  "),
        (r#"name=="x"y"#, r#"[name=="x" >|y|< ]: unexpected input: y"#),
        ("name==", "[name==]: expected value or quoted"),
        ("name==.x", "[name== >|.|< x]: expected value or quoted"),
        (r#"name=="\q""#, r#"[name== >|"|< \q"]: illegal escape sequence"#),
        (r#"name=="\x4""#, r#"[name== >|"|< \x4"]: illegal numeric escape sequence"#),
        (r#"name=="\777""#, r#"[name== >|"|< \777"]: unquoting failed: quote syntax error"#),
        (r#"name=="\xff""#, r#"[name== >|"|< \xff"]: unquoting failed: quote syntax error"#),
        ("näme", r#"[n >|ä|< me]: expected an operator ("=="|"!="|"~=")"#),
        ("\0", "[ >|\0|< ]: unexpected null"),
    ] {
        assert_eq!(error(filter), format!("filters: parse error: {message}"));
    }
}

#[test]
fn expressions_are_those_of_go_and_bounded() {
    let digits = object("x", &[("d", "\u{663}"), ("s", "\u{a0}")]);
    assert!(!is_listed(&digits, &[r"labels.d~=\d"]));
    assert!(!is_listed(&digits, &[r"labels.s~=\s"]));
    for bad in
        ["name~=[", "name~=(", r"name~=\pL", "name~=a{1,1000000}", "name~=(?:(?:a{99}){99}){99}"]
    {
        assert!(error(bad).contains("cannot compile the regular expression"), "{bad}");
    }
    let long = format!("name~={}", "a".repeat(MAX_PATTERN_LENGTH + 1));
    assert!(error(&long).contains("at most 4096 are allowed"));
    let many = vec!["name~=a"; MAX_PATTERNS + 1];
    assert!(Filters::parse(&many[1..]).is_ok());
    assert!(Filters::parse(&many).is_err());
    assert!(Filters::parse(&[many.join(",")]).is_err());
    assert!(Filters::parse(&["a".repeat(MAX_LENGTH)]).is_ok());
    assert!(Filters::parse(&["a".repeat(MAX_LENGTH / 2 + 1), "b".repeat(MAX_LENGTH / 2)]).is_err());
}

#[test]
fn a_wrong_filter_is_refused_beside_one_that_matches_all() {
    assert!(Filters::parse(&["", "name=x"]).is_err());
}
