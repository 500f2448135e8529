//! How long a sandbox takes: made, a program started in it, its end seen, and the sandbox destroyed.
//!
//! `cargo run --release -p hearth-sandbox --example start_time [RUNS] [PROGRAM]`

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hearth_sandbox::{
    Container, ContainerConfig, Driver, Exit, ProcessSpec, Root, SandboxSpec, ZYGOTE_ARGUMENT, zygote_main,
};
use hearth_types::InstanceId;

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|argument| argument == ZYGOTE_ARGUMENT) {
        return zygote_main();
    }
    let measured = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(measure()));
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot measure: {error} ({:?})", error.source());
            ExitCode::FAILURE
        }
    }
}

async fn measure() -> Result<(), Box<dyn Error>> {
    let runs = std::env::args().nth(1).map_or(Ok(200), |runs| runs.parse())?;
    let program = std::env::args().nth(2).unwrap_or_else(|| "/usr/bin/true".to_owned());
    let directory = std::env::temp_dir().join(format!("hearth-start-time-{}", std::process::id()));
    let config = ContainerConfig {
        name: format!("start-time-{}", std::process::id()),
        directory: directory.clone(),
        program: std::env::current_exe()?,
        resolvers: Vec::new(),
    };
    let (driver, _) = Container::open(config).await?;
    let (mut made, mut exited, mut destroyed) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..runs {
        let start = Instant::now();
        let sandbox = driver.create(spec(run)).await?;
        made.push(start.elapsed());
        let process = sandbox.spawn(process(&program)).await?;
        let exit = process.exit.await?;
        exited.push(start.elapsed());
        if exit != Exit::Status(0) {
            return Err(format!("{program} ended with {exit:?}").into());
        }
        let start = Instant::now();
        sandbox.destroy().await;
        destroyed.push(start.elapsed());
    }
    driver.close().await;
    std::fs::remove_dir_all(directory)?;
    for (what, times) in [("made", made), ("program's end seen", exited), ("destroyed", destroyed)] {
        let [p50, p90] = percentiles(times);
        println!("{what}: p50 {:.2} ms, p90 {:.2} ms", p50.as_secs_f64() * 1e3, p90.as_secs_f64() * 1e3);
    }
    Ok(())
}

fn spec(run: u64) -> SandboxSpec {
    SandboxSpec {
        instance: InstanceId::new(1, run),
        root: Root::Host,
        mounts: Vec::new(),
        memory_bytes: 128 << 20,
        cpu_millis: 1_000,
        processes: 64,
        open_files: 1_024,
        scratch_bytes: 512 << 20,
        egress: hearth_types::Egress::None,
    }
}

fn process(program: &str) -> ProcessSpec {
    ProcessSpec {
        argv: vec![program.to_owned()],
        environment: BTreeMap::new(),
        working_directory: "/var/task".into(),
    }
}

fn percentiles(mut times: Vec<Duration>) -> [Duration; 2] {
    times.sort();
    [50, 90].map(|percent| times.get(times.len() * percent / 100).copied().unwrap_or_default())
}
