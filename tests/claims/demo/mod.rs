//! Claims about the demo: what it counts adds up, what it suggests to a person who looks around works, and it can be
//! interrupted. Its shop window has claims of its own.

mod window;

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, ensure};
use hotrow_tests::wait;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use procfs::process::{Process, all_processes};
use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;

const A_WHILE: Duration = Duration::from_secs(30);

/// A short stampede.
const SHORT: [&str; 6] = ["--orders", "500", "--stock", "100", "--connections", "8"];
/// Where the suggestions are.
const BEFORE_THE_FIRST: &str = "To try";
/// What is in the one suggestion that is refused.
const REFUSED: &str = "another-payment";
/// What the last suggestion asks for.
const THE_LAST: &str = "/restock";

#[tokio::test]
async fn the_demo_counts_all_acts_and_everything_adds_up() -> anyhow::Result<()> {
    let mut demo = demo(&SHORT).arg("--json").spawn()?;
    let said = Said::by(&mut demo, |_| false)?;
    let output = tokio::task::spawn_blocking(move || demo.wait_with_output()).await??;
    drop(said);
    let counted = String::from_utf8(output.stdout)?;
    assert_eq!(output.status.code(), Some(0), "{counted}");
    assert_eq!(counted.lines().count(), 1, "one JSON object: {counted}");
    let counted: Value = serde_json::from_str(&counted)?;
    adds_up(&counted);
    rules_are_kept(&counted["rules"]);
    Ok(())
}

#[tokio::test]
async fn the_life_of_an_order_that_is_suggested_beside_the_window_works() -> anyhow::Result<()> {
    let mut demo = demo(&["--stay"]).spawn()?;
    let said = Said::by(&mut demo, |line| line.contains(THE_LAST))?;
    let result = async {
        let said = said.until_then.await.context("it ended too early")?;
        let answers = try_out(&commands(&said)).await?;
        anyhow::Ok((said, answers))
    };
    let result = result.await;
    let status = interrupt(&mut demo)?;
    let (said, answers) = result?;
    assert_eq!(status, Some(0), "{said:#?}");

    let [
        first,
        again,
        reserved,
        paid,
        cancelled,
        changes,
        tables,
        late,
        unmatched,
        restocked,
    ] = answers.as_slice()
    else {
        panic!("other suggestions than expected: {answers:?}");
    };
    assert_eq!(first["order_id"], again["order_id"], "one key is one order");
    for (order, status) in [
        (reserved, "reserved"),
        (paid, "confirmed"),
        (cancelled, "cancelled"),
        (&late["order"], "cancelled"),
    ] {
        assert_eq!(order["status"], status, "{order}");
    }
    let statuses: Vec<_> = changes["changes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|change| &change["status"])
        .collect();
    assert_eq!(
        json!(statuses),
        json!(["reserved", "confirmed", "cancelled"])
    );
    assert_eq!(
        (&tables["available"], &tables["held"]),
        (&json!(100), &json!(0))
    );
    assert_eq!(late["unmatched"], true, "{late}");
    assert_eq!(unmatched["payments"][0]["why"], "cancelled");
    assert_eq!(restocked["available"], 200);
    Ok(())
}

/// Checks the result of a short stampede and of the second act.
fn adds_up(result: &Value) {
    let count = |name: &str| {
        let count = result[name].as_u64();
        count.unwrap_or_else(|| panic!("no {name} in {result}"))
    };
    // The stampede alone, whatever was sold behind it.
    let answered = count("accepted") + count("refused") + count("unanswered");
    assert_eq!((count("orders"), answered), (500, 500), "{result}");
    assert_eq!((count("stock"), count("confirmed")), (100, 100), "{result}");
    let settled = count("confirmed") + count("sold_out");
    assert_eq!(settled, count("accepted"), "{result}");
    for never in [
        "lost",
        "doubled",
        "oversold",
        "rejected_otherwise",
        "failed",
    ] {
        assert_eq!(count(never), 0, "{result}");
    }
    assert_eq!(result["books_balance"], true, "{result}");

    let ended = count("paid") + count("cancelled") + count("expired");
    assert_eq!(count("reserved"), ended, "{result}");
    assert_eq!(count("paid") + count("late_paid"), 300, "all are sold");
    assert!(count("cancelled") > 0 && count("expired") > 0, "{result}");
    assert!(count("unmatched") > 0, "{result}");
    let late = count("late_paid") + count("unmatched");
    assert!(late < count("expired"), "{result}");
    assert_eq!(count("webhooks_delivered"), 300, "one of each sold");
}

/// Checks the result of the third act.
fn rules_are_kept(rules: &Value) {
    let all = |name: &str| -> u64 {
        let counts = rules[name].as_object().into_iter().flatten();
        counts.filter_map(|(_, count)| count.as_u64()).sum()
    };
    let (accepted, refused) = (rules["accepted"].as_u64(), all("refused"));
    let asked = accepted.map(|accepted| accepted + refused);
    assert_eq!(rules["asked"].as_u64(), asked, "{rules}");
    assert_eq!(accepted, Some(all("settled")), "{rules}");
    let happened = |group: &str, name: &str| {
        let count = rules[group][name].as_u64().unwrap_or_default();
        assert!(count > 0, "nothing {group} {name} in {rules}");
    };
    for code in [
        "not_open",
        "paused",
        "limit_reached",
        "rate_limited",
        "forbidden",
        "sold_out",
    ] {
        happened("refused", code);
    }
    for limit in ["ip", "customer"] {
        happened("rate_limited_by", limit);
    }
    for outcome in ["confirmed", "limit_reached"] {
        happened("settled", outcome);
    }
    assert_eq!(rules["most_per_customer"], 2, "{rules}");
    let sold = rules["pieces"].as_u64();
    assert!(sold > Some(0) && sold <= Some(600), "{rules}");
}

#[tokio::test]
async fn an_interrupt_while_goods_are_held_leaves_nothing_behind() -> anyhow::Result<()> {
    let parent = TempDir::new()?;
    // As root, PostgreSQL runs as another user, who has to reach its folder in there.
    fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o755))?;
    let mut demo = demo(&SHORT)
        .env("TMPDIR", parent.path())
        .env_remove("DATABASE_URL")
        .env_remove("AMQP_URL")
        .spawn()?;
    // A line each second says how many are held.
    let said = Said::by(&mut demo, |line| line.starts_with("held "))?;
    let is_held = said.until_then.await;
    let children = children(&demo)?;
    let status = interrupt(&mut demo)?;
    is_held?;
    assert_eq!(status, Some(130));
    ensure!(children.len() >= 6, "two servers and four processes");
    nothing_is_left(parent.path(), &children).await
}

/// The processes that a demo has started, each by its id and when it began.
fn children(demo: &Child) -> anyhow::Result<Vec<(i32, u64)>> {
    let id = i32::try_from(demo.id())?;
    let children = all_processes()?
        .filter_map(|process| process.ok()?.stat().ok())
        .filter(|stat| stat.ppid == id)
        .map(|stat| (stat.pid, stat.starttime));
    Ok(children.collect())
}

/// Waits until the folder for temporary files is empty and none of these processes is there.
async fn nothing_is_left(folder: &Path, children: &[(i32, u64)]) -> anyhow::Result<()> {
    let is_there = |(id, began): &(i32, u64)| {
        let stat = Process::new(*id).and_then(|process| process.stat());
        stat.is_ok_and(|stat| stat.starttime == *began)
    };
    wait::until("everything to be gone", A_WHILE, async || {
        let is_empty = fs::read_dir(folder).is_ok_and(|mut left| left.next().is_none());
        (is_empty && !children.iter().any(is_there)).then_some(())
    })
    .await
}

fn demo(arguments: &[&str]) -> Command {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"));
    demo.args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    demo
}

/// What Ctrl-C does. Returns the exit code.
fn interrupt(demo: &mut Child) -> anyhow::Result<Option<i32>> {
    kill(Pid::from_raw(i32::try_from(demo.id())?), Signal::SIGINT)?;
    Ok(demo.wait()?.code())
}

/// What the demo says on standard error.
struct Said {
    /// All of it, up to the line that is waited for.
    until_then: oneshot::Receiver<Vec<String>>,
}

impl Said {
    fn by(demo: &mut Child, is_last: fn(&str) -> bool) -> anyhow::Result<Self> {
        let lines = BufReader::new(demo.stderr.take().context("no standard error")?).lines();
        let (tell, until_then) = oneshot::channel();
        // To its end: a program that says something to nobody fails.
        thread::spawn(move || {
            let mut lines = lines.map_while(Result::ok);
            let mut said = Vec::new();
            for line in lines.by_ref() {
                // A command may go on in the next line.
                let is_there = is_last(&line) && !line.ends_with('\\');
                let is_end = said.last().is_some_and(|line: &String| is_last(line));
                said.push(line);
                if is_there || is_end {
                    let _ = tell.send(said);
                    break;
                }
            }
            lines.for_each(drop);
        });
        Ok(Self { until_then })
    }
}

/// The suggested commands, each in one line.
fn commands(said: &[String]) -> Vec<String> {
    let suggested = said
        .iter()
        .skip_while(|line| !line.starts_with(BEFORE_THE_FIRST));
    let lines: Vec<_> = suggested
        .skip(1)
        .map(String::as_str)
        .filter(|line| !line.trim_start().starts_with('#'))
        .collect();
    let commands = lines.join("\n").replace("\\\n", " ");
    let commands = commands.lines().map(|line| line.trim().to_owned());
    commands.filter(|line| !line.is_empty()).collect()
}

/// Does what these commands say, one after the other, and returns the answers.
async fn try_out(commands: &[String]) -> anyhow::Result<Vec<Value>> {
    let http = Client::builder().no_proxy().build()?;
    let mut order = None;
    let mut answers = Vec::new();
    for command in commands {
        let kept = command.strip_prefix("order=$(");
        let curl = match kept {
            Some(kept) => {
                let curl = kept.strip_suffix(" | cut -d '\"' -f 4)");
                curl.with_context(|| format!("no id is cut from {command}"))?
            }
            None => command.as_str(),
        };
        let text = curl_as_told(&http, curl, order.as_deref())
            .await
            .with_context(|| command.clone())?;
        if kept.is_some() {
            order = text.split('"').nth(3).map(str::to_owned);
        }
        answers.push(serde_json::from_str(&text)?);
    }
    Ok(answers)
}

/// Does what a `curl` does with these arguments, and expects a success, or the one refusal.
async fn curl_as_told(http: &Client, command: &str, order: Option<&str>) -> anyhow::Result<String> {
    let words = words(command);
    let follows = |flag: &'static str| {
        let pairs = words.windows(2).filter(move |pair| pair[0] == flag);
        pairs.map(|pair| pair[1].as_str())
    };
    ensure!(words.first().is_some_and(|word| word == "curl"), "no curl");
    let url = words.iter().find(|word| word.starts_with("http://"));
    let mut url = url.context("no URL")?.clone();
    if let Some(order) = order {
        url = url.replace("$order", order);
    }
    let mut request = match follows("-d").next() {
        Some(body) => http.post(url).body(body.to_owned()),
        None => http.get(url),
    };
    for header in follows("-H") {
        let (name, value) = header.split_once(": ").context("no header")?;
        request = request.header(name, value);
    }
    let answer = request.send().await?;
    let status = answer.status();
    let text = answer.text().await?;
    ensure!(
        status.is_success() != command.contains(REFUSED),
        "{status}: {text}"
    );
    Ok(text)
}

/// The words of a shell command that quotes with ' or " and escapes nothing.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = None;
    for character in command.chars() {
        match (quoted, character) {
            (None, '\'' | '"') => quoted = Some(character),
            (Some(quote), _) if quote == character => quoted = None,
            (None, ' ') => words.push(String::new()),
            _ => words
                .iter_mut()
                .rev()
                .take(1)
                .for_each(|word| word.push(character)),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
