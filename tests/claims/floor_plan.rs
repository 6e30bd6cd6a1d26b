//! Claims about the floor plan: within a crate, files use each other in one direction only.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
    path::Path,
};

use anyhow::ensure;

const CRATES: [&str; 3] = ["shared", "ingest", "worker"];

/// A module by its path within its crate; the root is empty.
type Module = Vec<String>;
/// Which modules, each of them a file, use which others.
type Plan = BTreeMap<Module, BTreeSet<Module>>;

#[test]
fn no_file_of_a_crate_uses_itself_in_a_circle() -> anyhow::Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for name in CRATES {
        let mut sources = BTreeMap::new();
        read(&workspace.join(name).join("src"), &[], &mut sources)?;
        let circles = circles(&plan(&sources));
        found.extend(
            circles
                .into_iter()
                .map(|circle| format!("{name}: {circle}")),
        );
    }
    ensure!(
        found.is_empty(),
        "files that use each other in a circle, each the next:\n{}",
        found.join("\n")
    );
    Ok(())
}

#[test]
fn circles_are_found_and_re_exports_are_none() {
    let sources = |files: &[(&str, &str)]| -> BTreeMap<Module, String> {
        let module = |path: &str| path.split_terminator("::").map(str::to_owned).collect();
        files
            .iter()
            .map(|(path, source)| (module(path), (*source).to_owned()))
            .collect()
    };
    let found = |files| circles(&plan(&sources(files)));
    let none: [String; 0] = [];

    let siblings = [
        ("", "mod door; mod lane;"),
        ("door", "use crate::{lane::{Lane, Room}, Other};"),
        ("lane", "fn open() { super::door::knock() }"),
    ];
    assert_eq!(found(&siblings), ["door -> lane -> door"]);

    let parent_and_child = [
        ("", "pub mod door;"),
        ("door", "mod bell;\nuse self::bell::Bell;"),
        ("door::bell", "use super::Door;"),
    ];
    assert_eq!(found(&parent_and_child), ["door -> door::bell -> door"]);

    let re_export = [
        ("", "pub mod door;"),
        ("door", "mod bell;\npub(crate) use self::bell::Bell;"),
        ("door::bell", "use super::Door;"),
    ];
    assert_eq!(found(&re_export), none);

    let tests_and_comments = [
        ("", "mod door; mod lane;"),
        ("door", "use crate::lane::Lane;"),
        (
            "lane",
            "// crate::door\n#[cfg(test)]\nmod tests { use crate::door::Door; }",
        ),
    ];
    assert_eq!(found(&tests_and_comments), none);
}

/// Reads the files of a folder and of those below it. The program's own file is no part of the library.
fn read(
    folder: &Path,
    above: &[String],
    into: &mut BTreeMap<Module, String>,
) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            read(&path, &[above, &[name]].concat(), into)?;
            continue;
        }
        let module = match name.as_str() {
            "main" | "tests" => continue,
            "lib" | "mod" => above.to_vec(),
            _ => [above, &[name]].concat(),
        };
        into.insert(module, fs::read_to_string(&path)?);
    }
    Ok(())
}

/// Which file uses which. What a file only re-exports it does not use, and unit tests may use all.
fn plan(sources: &BTreeMap<Module, String>) -> Plan {
    let uses = |(module, source): (&Module, &String)| {
        let code: String = source
            .split("#[cfg(test)]\nmod tests")
            .take(1)
            .flat_map(str::lines)
            .map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n")
            .collect();
        let mut uses: BTreeSet<_> = paths(&code)
            .iter()
            .filter_map(|path| target(path, module, sources))
            .collect();
        uses.remove(module);
        (module.clone(), uses)
    };
    sources.iter().map(uses).collect()
}

/// Every path in the code, those of `use` trees written out.
fn paths(code: &str) -> Vec<Module> {
    let mut paths = Vec::new();
    let mut rest = String::new();
    for statement in code.split_inclusive(';') {
        // A `use` may follow an item that ends without a semicolon.
        let start = statement
            .match_indices("use ")
            .find(|(at, _)| statement[..*at].lines().last().is_none_or(is_visibility));
        let Some((at, _)) = start else {
            rest.push_str(statement);
            continue;
        };
        rest.push_str(&statement[..at]);
        let is_re_export = statement[..at].trim_end().ends_with(['b', ')']);
        if !is_re_export {
            let tree: String = statement[at + "use ".len()..].split_whitespace().collect();
            write_out(tree.trim_end_matches(';'), &mut Vec::new(), &mut paths);
        }
    }
    let is_of_a_path = |character: char| character.is_alphanumeric() || "_:".contains(character);
    let words = rest.split(|character| !is_of_a_path(character));
    let written = words.filter(|word| word.contains("::"));
    paths.extend(written.map(|path| path.split("::").map(str::to_owned).collect()));
    paths
}

/// Returns whether a line's beginning, before `use`, is blank or says for whom the name is.
fn is_visibility(before: &str) -> bool {
    let before = before.trim();
    before.is_empty() || before == "pub" || (before.starts_with("pub(") && before.ends_with(')'))
}

/// Writes out a `use` tree, without whitespace, below a prefix.
fn write_out(tree: &str, prefix: &mut Vec<String>, into: &mut Vec<Module>) {
    if let Some(group) = tree
        .strip_prefix('{')
        .and_then(|tree| tree.strip_suffix('}'))
    {
        let mut depth = 0;
        let is_between = |character: char| {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            character == ',' && depth == 0
        };
        for part in group.split(is_between).filter(|part| !part.is_empty()) {
            write_out(part, prefix, into);
        }
    } else if let Some((first, rest)) = tree.split_once("::") {
        prefix.push(first.to_owned());
        write_out(rest, prefix, into);
        prefix.pop();
    } else {
        into.push([prefix.as_slice(), &[tree.to_owned()]].concat());
    }
}

/// The file that a path in `module` leads to, if it is one of this crate.
fn target(path: &[String], module: &Module, sources: &BTreeMap<Module, String>) -> Option<Module> {
    let mut place = module.clone();
    let mut path = path;
    match path.first()?.as_str() {
        "crate" => {
            place.clear();
            path = &path[1..];
        }
        "self" => path = &path[1..],
        "super" => {
            while path.first().is_some_and(|part| part == "super") {
                place.pop()?;
                path = &path[1..];
            }
        }
        child if sources.contains_key(&[place.as_slice(), &[child.to_owned()]].concat()) => {}
        _ => return None,
    }
    for part in path {
        place.push(part.clone());
        if !sources.contains_key(&place) {
            place.pop();
            break;
        }
    }
    Some(place)
}

/// The shortest circle through each file that is in one, each circle once.
fn circles(plan: &Plan) -> Vec<String> {
    let mut in_a_circle = BTreeSet::new();
    let mut found = Vec::new();
    for start in plan.keys() {
        if in_a_circle.contains(start) {
            continue;
        }
        if let Some(circle) = circle(plan, start) {
            let names: Vec<_> = circle.iter().map(name).collect();
            in_a_circle.extend(circle);
            found.push(names.join(" -> "));
        }
    }
    found
}

fn name(module: &Module) -> String {
    if module.is_empty() {
        "lib".to_owned()
    } else {
        module.join("::")
    }
}

/// The shortest way from a file back to itself.
fn circle(plan: &Plan, start: &Module) -> Option<Vec<Module>> {
    let mut ways = VecDeque::from([vec![start.clone()]]);
    let mut reached = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in plan.get(way.last()?)? {
            let further = [way.as_slice(), std::slice::from_ref(next)].concat();
            if next == start {
                return Some(further);
            }
            if reached.insert(next) {
                ways.push_back(further);
            }
        }
    }
    None
}
