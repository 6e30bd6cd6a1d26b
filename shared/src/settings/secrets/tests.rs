//! What counts, at the start and after a file is read again.

use std::{fs, path::Path};

use super::*;

const ONE: Secret = Secret {
    name: "ADMIN_TOKEN",
    help: "",
};
const OTHER: Secret = Secret {
    name: "ORDER_ID_SECRET",
    help: "",
};

fn told(problems: Problems) -> String {
    problems.or::<()>(None).expect_err("problems").to_string()
}

fn named(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Both secrets in one text; `wrong` does not fit.
fn joined([one, other]: [Option<&str>; 2], problems: &mut Problems) -> Option<String> {
    if one == Some("wrong") {
        problems.add("ADMIN_TOKEN: is wrong");
    }
    (one.is_some() || other.is_some())
        .then(|| format!("{}+{}", one.unwrap_or("-"), other.unwrap_or("-")))
}

#[test]
fn a_secret_stands_in_its_variable_or_in_a_file_and_not_in_both() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("secret");
    fs::write(&path, "from a file\n")?;
    let mut problems = Problems::default();
    let secrets = Secrets::of([
        ("ADMIN_TOKEN", "from a variable"),
        ("ADMIN_TOKEN_FILE", ""),
        ("ORDER_ID_SECRET_FILE", named(&path)),
    ]);
    let one: Option<String> = secrets.require(&ONE, &mut problems);
    assert_eq!(one.as_deref(), Some("from a variable"));
    let other = secrets.text(&OTHER, &mut problems);
    assert_eq!(other, Ok(Some("from a file".to_owned())));
    assert_eq!(problems.or(Some(())).ok(), Some(()));

    let mut problems = Problems::default();
    let both = Secrets::of([("ADMIN_TOKEN", "one"), ("ADMIN_TOKEN_FILE", named(&path))]);
    assert!(both.require::<String>(&ONE, &mut problems).is_none());
    assert!(both.require::<String>(&OTHER, &mut problems).is_none());
    let message = told(problems);
    for part in [
        "2 found",
        "ADMIN_TOKEN and ADMIN_TOKEN_FILE are both set",
        "ORDER_ID_SECRET is required, or ORDER_ID_SECRET_FILE",
    ] {
        assert!(message.contains(part), "{message}");
    }
    Ok(())
}

#[test]
fn a_missing_file_is_one_problem_that_does_not_repeat_what_was_named() {
    let mut problems = Problems::default();
    let mistaken = Secrets::of([("ADMIN_TOKEN_FILE", "/the-secret-itself")]);
    assert!(mistaken.require::<String>(&ONE, &mut problems).is_none());
    let message = told(problems);
    assert!(message.contains("1 found"), "{message}");
    assert!(message.contains("ADMIN_TOKEN_FILE: the file"), "{message}");
    assert!(!message.contains("the-secret-itself"), "{message}");
}

#[test]
fn secrets_that_belong_together_are_replaced_together_or_not_at_all() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    fs::write(&one, "1")?;
    fs::write(&other, "a")?;
    let mut secrets = Secrets::of([
        ("ADMIN_TOKEN_FILE", named(&one)),
        ("ORDER_ID_SECRET_FILE", named(&other)),
    ]);
    let mut problems = Problems::default();
    let both = secrets.rotating([&ONE, &OTHER], &mut problems, joined);
    let both = both.expect("both fit");
    let files = secrets.files();
    assert_eq!(*both.current(), "1+a");
    fs::write(&one, "2")?;
    fs::write(&other, "b")?;
    assert_eq!(*both.current(), "1+a");
    files.read_again();
    assert_eq!(*both.current(), "2+b");
    fs::write(&one, "3")?;
    fs::write(&other, "")?;
    files.read_again();
    assert_eq!(*both.current(), "2+b");
    fs::write(&one, "wrong")?;
    fs::write(&other, "c")?;
    files.read_again();
    assert_eq!(*both.current(), "2+b");
    fs::remove_file(&one)?;
    files.read_again();
    assert_eq!(*both.current(), "2+b");
    fs::write(&one, "3")?;
    files.read_again();
    assert_eq!(*both.current(), "3+c");
    Ok(())
}

#[test]
fn a_variable_is_not_read_again_and_one_that_is_missing_makes_nothing() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("one");
    fs::write(&path, "1")?;
    let mut secrets = Secrets::of([("ADMIN_TOKEN_FILE", named(&path)), ("ORDER_ID_SECRET", "a")]);
    let mut problems = Problems::default();
    let both = secrets.rotating([&ONE, &OTHER], &mut problems, joined);
    let both = both.expect("both fit");
    fs::write(&path, "2")?;
    secrets.files().read_again();
    assert_eq!(*both.current(), "2+a");

    let mut none = Secrets::of([]);
    assert!(
        none.rotating([&ONE, &OTHER], &mut problems, joined)
            .is_none()
    );
    assert_eq!(problems.or(Some(())).ok(), Some(()));
    Ok(())
}
