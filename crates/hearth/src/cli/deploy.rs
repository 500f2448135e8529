//! `hearth deploy`: a directory, archive or image becomes a function, or its next revision.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use hearth_types::{Runtime, RuntimeFamily};
use serde_json::{Map, Value, json};

use crate::cli::ServerArgs;
use crate::cli::push::push;
use crate::client::{Client, Reply, segment};
use crate::deploy::{Bundle, Guess, function_name, read, word_as_name};
use crate::local_image::{LocalImage, Named};
use crate::terminal;

/// The runtime that a bundle with a bootstrap gets.
const PROVIDED: &str = "provided.al2023";
/// A role that nobody needs to have: the API asks for one.
const ROLE: &str = "arn:aws:iam::000000000000:role/hearth";
/// The tag of functions that are servers.
const HTTP_PORT: &str = "hearth:http-port";
/// A server that does not settle a function in this time is stuck.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(120);
const SETTLE_POLL: Duration = Duration::from_millis(50);

/// What `hearth deploy` can be told.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  hearth deploy .                                       the directory's name becomes the function's
  hearth deploy target/lambda/thumbnailer               what `cargo lambda build` made
  hearth deploy bundle.zip --name api --runtime python3.12 --handler app.main
  hearth deploy localhost:9000/app:v1                   an image that was pushed here, or in any registry
  hearth deploy docker.io/library/nginx --http-port 80  an HTTP service
  hearth deploy app.tar --name app                      what `docker save` wrote; or oci:DIRECTORY
  hearth deploy . --memory 512 --env LEVEL=debug --tag hearth:idle-timeout=60")]
pub(crate) struct DeployArgs {
    /// A directory, a zip archive, or an image: HOST/REPOSITORY:TAG, what `docker save` wrote, oci:DIRECTORY:TAG,
    /// oci-archive:FILE:TAG or docker-archive:FILE:TAG, without :TAG where there is one image
    #[arg(value_name = "PATH|IMAGE")]
    what: Named,
    /// The function's name [default: the last part of the path or repository]
    #[arg(long)]
    name: Option<String>,
    /// Its runtime, such as python3.12 [default: guessed]
    #[arg(long)]
    runtime: Option<Runtime>,
    /// Its handler, such as app.handler [default: guessed]
    #[arg(long)]
    handler: Option<String>,
    /// What an image runs instead of its own entry point; several times for its arguments
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    entrypoint: Vec<String>,
    /// The image's command instead of its own; several times for its arguments
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    command: Vec<String>,
    /// Where the image's program starts instead of the image's own place
    #[arg(long, value_name = "DIR")]
    workdir: Option<String>,
    /// Its memory, MiB; 1769 is one vCPU [default: 128]
    #[arg(long, value_name = "MB")]
    memory: Option<u32>,
    /// Time for one invocation, seconds [default: 3]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
    /// Size of /tmp, MiB [default: 512]
    #[arg(long, value_name = "MB")]
    ephemeral: Option<u32>,
    /// An environment variable; may be given several times, and then replaces all that the function has
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// A tag; `hearth:*` tags are settings. May be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    tag: Vec<(String, String)>,
    /// It is a server that listens on this port, not a function: the tag hearth:http-port
    #[arg(long, value_name = "PORT")]
    http_port: Option<u16>,
    #[command(flatten)]
    server: ServerArgs,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not NAME=VALUE")),
    }
}

pub(crate) fn run(args: &DeployArgs) -> anyhow::Result<ExitCode> {
    match &args.what {
        Named::Code(path) => deploy_code(args, path),
        Named::Image(path, tag) => {
            let image = LocalImage::open(path, tag.as_deref())?;
            let name = args.name.clone().map_or_else(|| function_name(path), Ok)?;
            let client = args.server.client()?;
            let uri = push(&client, &image, &name, &say)?;
            deploy_image(args, &client, &name, &uri)
        }
        Named::Remote(uri) => {
            let repository = uri.parse::<hearth_oci::Reference>()?.repository;
            let last = repository.rsplit('/').next().unwrap_or_default();
            let name = args.name.clone().map_or_else(|| word_as_name(last, &repository), Ok)?;
            deploy_image(args, &args.server.client()?, &name, uri)
        }
    }
}

fn deploy_image(args: &DeployArgs, client: &Client, name: &str, uri: &str) -> anyhow::Result<ExitCode> {
    if args.runtime.is_some() || args.handler.is_some() {
        bail!("an image has no --runtime and no --handler: it brings all that it runs; see --command");
    }
    let existing = configuration(client, name)?;
    say(&format!("{} {name}: image {uri}", if existing.is_some() { "updating" } else { "creating" }));
    let mut config = common(args);
    let mut image = Map::new();
    for (member, words) in [("EntryPoint", &args.entrypoint), ("Command", &args.command)] {
        if !words.is_empty() {
            image.insert(member.into(), json!(words));
        }
    }
    if let Some(directory) = &args.workdir {
        image.insert("WorkingDirectory".into(), json!(directory));
    }
    if !image.is_empty() {
        config.insert("ImageConfig".into(), Value::Object(image));
    }
    let code = Map::from_iter([("ImageUri".to_owned(), json!(uri))]);
    let settled = match existing {
        None => {
            config.insert("PackageType".into(), json!("Image"));
            create(client, name, args, code, config)?
        }
        Some(_) => update(client, name, args, code, config)?,
    };
    report(name, &settled, args)
}

fn deploy_code(args: &DeployArgs, path: &Path) -> anyhow::Result<ExitCode> {
    if !args.entrypoint.is_empty() || !args.command.is_empty() || args.workdir.is_some() {
        bail!("--entrypoint, --command and --workdir are for images, and {} is none", path.display());
    }
    let bundle = read(path)?;
    let client = args.server.client()?;
    let name = args.name.clone().map_or_else(|| function_name(path), Ok)?;
    let existing = configuration(&client, &name)?;
    let (runtime, handler) = program(args, path, &bundle, existing.as_ref(), &client)?;
    say(&format!(
        "{} {name}: {runtime}, handler {handler}, {} files, {} KiB",
        if existing.is_some() { "updating" } else { "creating" },
        bundle.files,
        bundle.archive.len().div_ceil(1024),
    ));
    let configured = configured(args, &runtime, &handler, existing.is_none());
    let code = Map::from_iter([("ZipFile".to_owned(), json!(BASE64.encode(&bundle.archive)))]);
    let settled = match existing {
        None => create(&client, &name, args, code, configured)?,
        Some(_) => update(&client, &name, args, code, configured)?,
    };
    report(&name, &settled, args)
}

/// The runtime and handler: as told, else as the function has them, else as guessed.
fn program(
    args: &DeployArgs,
    path: &Path,
    bundle: &Bundle,
    existing: Option<&Value>,
    client: &Client,
) -> anyhow::Result<(String, String)> {
    let has = |key: &str| existing.and_then(|config| config[key].as_str()).map(str::to_owned);
    let told_runtime =
        args.runtime.as_ref().map(|runtime| runtime.as_str().to_owned()).or_else(|| has("Runtime"));
    let told_handler = args.handler.clone().or_else(|| has("Handler"));
    if let (Some(runtime), Some(handler)) = (&told_runtime, &told_handler) {
        return Ok((runtime.clone(), handler.clone()));
    }
    let guess = bundle.guess.as_ref();
    let runtime = match (told_runtime, guess) {
        (Some(runtime), _) => runtime,
        (None, Some(guess)) => guessed_runtime(guess, client)?,
        (None, None) => bail!(
            "cannot tell what {} is: no bootstrap, no Python or Node file with a handler that is known by its name; \
             say --runtime and --handler",
            path.display()
        ),
    };
    let family = runtime.parse::<Runtime>().map(|runtime| runtime.family());
    let handler = match (told_handler, guess) {
        (Some(handler), _) => handler,
        (None, Some(guess)) if family == Ok(guess.family) => guess.handler.clone(),
        (None, _) if family == Ok(RuntimeFamily::Provided) => "bootstrap".to_owned(),
        (None, _) => bail!("cannot find the handler of {}: say --handler FILE.FUNCTION", path.display()),
    };
    if let Some(guess) = guess.filter(|_| args.runtime.is_none() || args.handler.is_none()) {
        say(&format!("guessed {runtime} and handler {handler}: {}", guess.because));
    }
    Ok((runtime, handler))
}

/// The newest runtime of the guessed family that the server can run, else one that lacks least: the server says what.
fn guessed_runtime(guess: &Guess, client: &Client) -> anyhow::Result<String> {
    if guess.family == RuntimeFamily::Provided {
        return Ok(PROVIDED.to_owned());
    }
    let reply = client.get("/_hearth/runtimes")?.into_success("list the server's runtimes")?.json()?;
    let listed = reply.as_array().map(Vec::as_slice).unwrap_or_default();
    let of_family = |state: &str| {
        listed
            .iter()
            .filter(|runtime| runtime["state"] == state)
            .filter_map(|runtime| runtime["name"].as_str()?.parse::<Runtime>().ok())
            .filter(|runtime| runtime.family() == guess.family)
            .max_by_key(|runtime| version_numbers(runtime.language_version().unwrap_or_default()))
    };
    ["ready", "needs_client", "no_interpreter"]
        .into_iter()
        .find_map(of_family)
        .map(|runtime| runtime.to_string())
        .context("the server knows no runtime for this code; see `hearth runtime list`")
}

fn version_numbers(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

/// The configuration that was told, in the API's words. A new function gets the program too.
fn configured(args: &DeployArgs, runtime: &str, handler: &str, new: bool) -> Map<String, Value> {
    let mut config = common(args);
    if new || args.runtime.is_some() || args.handler.is_some() {
        config.insert("Runtime".into(), json!(runtime));
        config.insert("Handler".into(), json!(handler));
    }
    config
}

/// The configuration that was told and that code and images both have.
fn common(args: &DeployArgs) -> Map<String, Value> {
    let mut config = Map::new();
    if let Some(memory) = args.memory {
        config.insert("MemorySize".into(), json!(memory));
    }
    if let Some(timeout) = args.timeout {
        config.insert("Timeout".into(), json!(timeout));
    }
    if let Some(size) = args.ephemeral {
        config.insert("EphemeralStorage".into(), json!({ "Size": size }));
    }
    if !args.env.is_empty() {
        let variables: BTreeMap<_, _> = args.env.iter().cloned().collect();
        config.insert("Environment".into(), json!({ "Variables": variables }));
    }
    config
}

fn tags(args: &DeployArgs) -> BTreeMap<String, String> {
    let port = args.http_port.map(|port| (HTTP_PORT.to_owned(), port.to_string()));
    args.tag.iter().cloned().chain(port).collect()
}

fn create(
    client: &Client,
    name: &str,
    args: &DeployArgs,
    code: Map<String, Value>,
    mut config: Map<String, Value>,
) -> anyhow::Result<Value> {
    config.insert("FunctionName".into(), json!(name));
    config.insert("Role".into(), json!(ROLE));
    config.insert("Code".into(), Value::Object(code));
    if !tags(args).is_empty() {
        config.insert("Tags".into(), json!(tags(args)));
    }
    client.post_json("/2015-03-31/functions", &Value::Object(config))?.into_success("create the function")?;
    settle(client, name)
}

fn update(
    client: &Client,
    name: &str,
    args: &DeployArgs,
    code: Map<String, Value>,
    config: Map<String, Value>,
) -> anyhow::Result<Value> {
    let path = format!("/2015-03-31/functions/{}", segment(name));
    let mut settled = settle(client, name)?;
    if !config.is_empty() {
        client
            .put_json(&format!("{path}/configuration"), &Value::Object(config))?
            .into_success("update the configuration")?;
        settled = settle(client, name)?;
    }
    if !tags(args).is_empty() {
        let arn = settled["FunctionArn"].as_str().context("the server's answer has no FunctionArn")?;
        client
            .post_json(&format!("/2017-03-31/tags/{}", segment(arn)), &json!({ "Tags": tags(args) }))?
            .into_success("set the tags")?;
        settle(client, name)?;
    }
    client.put_json(&format!("{path}/code"), &Value::Object(code))?.into_success("update the code")?;
    settle(client, name)
}

/// A function's configuration, if it exists.
fn configuration(client: &Client, name: &str) -> anyhow::Result<Option<Value>> {
    let reply: Reply = client.get(&format!("/2015-03-31/functions/{}/configuration", segment(name)))?;
    if reply.status == 404 && reply.header("x-amzn-errortype") == Some("ResourceNotFoundException") {
        return Ok(None);
    }
    reply.into_success("look the function up")?.json().map(Some)
}

/// Waits until neither the function nor its last update is in the making.
fn settle(client: &Client, name: &str) -> anyhow::Result<Value> {
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    loop {
        let config = configuration(client, name)?.context("the function was deleted by somebody else")?;
        if config["State"] != "Pending" && config["LastUpdateStatus"] != "InProgress" {
            return Ok(config);
        }
        if Instant::now() > deadline {
            bail!("{name} is still {} after {} s", config["State"], SETTLE_TIMEOUT.as_secs());
        }
        thread::sleep(SETTLE_POLL);
    }
}

fn report(name: &str, config: &Value, args: &DeployArgs) -> anyhow::Result<ExitCode> {
    for (state, reason) in [("State", "StateReason"), ("LastUpdateStatus", "LastUpdateStatusReason")] {
        if config[state] == "Failed" {
            bail!(
                "{name} is deployed but cannot run: {}",
                config[reason].as_str().unwrap_or("no reason given")
            );
        }
    }
    terminal::line(config["FunctionArn"].as_str().unwrap_or(name))?;
    let account =
        args.server.account.as_ref().map(|account| format!(" --account {account}")).unwrap_or_default();
    if tags(args).contains_key(HTTP_PORT) {
        say(&format!("ready: curl {}", args.server.service_url(name)));
    } else {
        say(&format!("ready: hearth invoke {name} '{{}}'{account}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Says how it goes to whoever watches; the one line on stdout is for scripts.
fn say(text: &str) {
    if std::io::stderr().is_terminal() {
        terminal::tell(format_args!("\x1b[2m{text}\x1b[0m"));
    } else {
        terminal::tell(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_needs_a_name_and_an_equals_sign() {
        assert_eq!(pair("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(pair("A="), Ok(("A".into(), String::new())));
        assert!(pair("A").is_err() && pair("=b").is_err());
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(version_numbers("3.10") > version_numbers("3.9"));
    }
}
