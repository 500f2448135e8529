//! `hearth key`: who may call. Asked of the server, or done in a data folder that no server uses, as for the very first key.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use hearth_frontend::administer_keys;
use hearth_keys::Credentials;
use hearth_store::SqliteStore;
use http::Method;
use serde_json::{Value, json};

use crate::client::{Client, Identity, segment};
use crate::data_dir::DataDir;
use crate::seal_key;
use crate::table::{printable, render};
use crate::terminal;

/// Where a server has its keys.
const KEYS: &str = "/_hearth/keys";

/// What `hearth key` can be told.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  hearth key create --operator --data ~/.hearth            the first key, before the server starts
  hearth key create --account 111111111111 --name ci
  hearth key create --account 111111111111 --function 'mail-*' --action Invoke* --expires-days 30
  hearth key list
  hearth key disable HRTH2ABC...

A running server is asked with a key of its operator, in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")]
pub(crate) enum KeyCommand {
    /// Make a key; prints its secret, which is shown only now
    Create(CreateArgs),
    /// List keys
    List(ListArgs),
    /// Switch a key off, at once
    Disable(OneArgs),
    /// Switch a key on again
    Enable(OneArgs),
    /// Remove a key
    Rm(OneArgs),
}

/// What `hearth key create` can be told.
#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// The account that its holder acts for, twelve digits
    #[arg(long, default_value = "000000000000")]
    account: String,
    /// What to call its holder
    #[arg(long)]
    name: Option<String>,
    /// Functions that it is for: a pattern of names, or of ARNs for those of other accounts; may be repeated
    #[arg(long, value_name = "PATTERN", default_value = "*", value_delimiter = ',')]
    function: Vec<String>,
    /// What it may do: a pattern such as InvokeFunction, Get*, logs:*, registry:Pull; may be repeated
    #[arg(long, value_name = "PATTERN", default_value = "*", value_delimiter = ',')]
    action: Vec<String>,
    /// Its holder operates the server: makes keys, sees all accounts and the metrics, drains workers
    #[arg(long)]
    operator: bool,
    /// Days until it is no longer good
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=36_500))]
    expires_days: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

/// What `hearth key list` can be told.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Which key is meant.
#[derive(Args, Debug)]
pub(crate) struct OneArgs {
    /// The key's id
    id: String,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Where the keys are.
#[derive(Args, Debug)]
struct PlaceArgs {
    /// The server's address
    #[arg(long, env = "HEARTH_ENDPOINT", default_value = "http://127.0.0.1:9000")]
    endpoint: String,
    /// A data folder that no server uses, instead of a server
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The file with the key that seals secrets, if it is not in that folder
    #[arg(long, env = "HEARTH_SEAL_KEY", value_name = "FILE", requires = "data")]
    seal_key: Option<PathBuf>,
}

/// The key that the environment has, if it has one.
pub(crate) fn from_environment() -> Option<Identity> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let key = Credentials {
        key_id: variable("AWS_ACCESS_KEY_ID")?,
        secret: variable("AWS_SECRET_ACCESS_KEY")?,
        token: variable("AWS_SESSION_TOKEN"),
    };
    let region = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
    Some(Identity::Key(key, region.unwrap_or_else(|| "us-east-1".to_owned())))
}

pub(crate) fn run(command: &KeyCommand) -> anyhow::Result<ExitCode> {
    match command {
        KeyCommand::Create(args) => create(args),
        KeyCommand::List(args) => list(args),
        KeyCommand::Disable(args) => change(args, &Method::POST, "/disable"),
        KeyCommand::Enable(args) => change(args, &Method::POST, "/enable"),
        KeyCommand::Rm(args) => change(args, &Method::DELETE, ""),
    }
}

impl PlaceArgs {
    /// Asks the server, or does it in the folder.
    fn ask(&self, what: &str, (method, path, body): (&Method, &str, &Value)) -> anyhow::Result<Value> {
        if let Some(folder) = &self.data {
            return self.ask_folder(folder, (method, path, body)).with_context(|| format!("cannot {what}"));
        }
        let client = Client::new(&self.endpoint, from_environment().unwrap_or(Identity::Nobody))?;
        let reply = match *method {
            Method::GET => client.get(path)?,
            Method::DELETE => client.delete(path)?,
            _ => client.post_json(path, body)?,
        };
        reply.into_success(what)?.json()
    }

    fn ask_folder(
        &self,
        folder: &std::path::Path,
        (method, path, body): (&Method, &str, &Value),
    ) -> anyhow::Result<Value> {
        let data = DataDir::open(folder)?;
        let file = self.seal_key.clone().unwrap_or_else(|| data.seal_key());
        let sealer = seal_key::open(&file, true)?;
        let store = SqliteStore::open(&data.database())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let body = body.to_string();
        let asked = administer_keys(&store, sealer, (method, path, body.as_bytes()));
        runtime.block_on(asked).map_err(|message| anyhow!(message))
    }
}

fn create(args: &CreateArgs) -> anyhow::Result<ExitCode> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
    let expires = args.expires_days.map(|days| now + Duration::from_secs(days * 24 * 3_600));
    let body = json!({
        "account": args.account,
        "name": args.name,
        "functions": args.function,
        "actions": args.action,
        "operator": args.operator,
        "expires_ms": expires.map(|expires| u64::try_from(expires.as_millis()).unwrap_or(u64::MAX)),
    });
    let key = args.place.ask("make the key", (&Method::POST, KEYS, &body))?;
    if args.json {
        terminal::line(format_args!("{key:#}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = |name: &str| printable(key[name].as_str().unwrap_or("-"));
    terminal::line(format_args!("export AWS_ACCESS_KEY_ID={}", text("access_key_id")))?;
    terminal::line(format_args!("export AWS_SECRET_ACCESS_KEY={}", text("secret_access_key")))?;
    terminal::tell("hearth: the secret is shown only now");
    Ok(ExitCode::SUCCESS)
}

fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let listed = args.place.ask("list the keys", (&Method::GET, KEYS, &Value::Null))?;
    if args.json {
        terminal::line(format_args!("{:#}", listed["keys"]))?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = listed["keys"].as_array().into_iter().flatten().map(row).collect();
    let header = ["KEY", "ACCOUNT", "NAME", "STATE", "OPERATOR", "EXPIRES", "FUNCTIONS", "ACTIONS"];
    terminal::bytes(render(&header, &rows).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn row(key: &Value) -> Vec<String> {
    let text = |name: &str| printable(key[name].as_str().unwrap_or("-"));
    let texts = |name: &str| {
        let all: Vec<&str> = key[name].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        printable(&all.join(","))
    };
    let expires = key["expires_ms"].as_u64().map_or_else(|| "never".to_owned(), left);
    let operator = if key["operator"] == true { "yes" } else { "no" };
    vec![
        text("access_key_id"),
        text("account"),
        text("name"),
        text("state"),
        operator.to_owned(),
        expires,
        texts("functions"),
        texts("actions"),
    ]
}

/// How long it is to a moment, in days.
fn left(epoch_ms: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let left = Duration::from_millis(epoch_ms).saturating_sub(now);
    format!("{} days", left.as_secs().div_ceil(24 * 3_600))
}

fn change(args: &OneArgs, method: &Method, verb: &str) -> anyhow::Result<ExitCode> {
    let path = format!("{KEYS}/{}{verb}", segment(&args.id));
    let answered = args.place.ask("change the key", (method, &path, &Value::Null))?;
    terminal::line(printable(answered["access_key_id"].as_str().unwrap_or("-")))?;
    Ok(ExitCode::SUCCESS)
}
