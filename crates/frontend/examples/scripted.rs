//! A frontend on port 9001 (or the first argument) whose functions echo, to try real clients against.

#![allow(clippy::unwrap_used, clippy::panic, dead_code, reason = "shares the backend of the tests")]

#[path = "../tests/api/scripted.rs"]
mod scripted;

use std::sync::Arc;

use hearth_frontend::{Frontend, FrontendConfig};
use hearth_image::ImageStore;
use hearth_oci::{Images, PullConfig, Puller};
use hearth_store::SqliteStore;
use tokio::net::TcpListener;
use tokio::sync::watch;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args().nth(1).map_or(Ok(9001), |text| text.parse())?;
    let data = tempfile::tempdir()?;
    let config = FrontendConfig {
        region: "us-east-1".to_owned(),
        default_account: "000000000000".parse()?,
        public_endpoint: format!("http://127.0.0.1:{port}"),
        service_domains: Vec::new(),
        s3: None,
        connections: 1_000,
        client_timeout: std::time::Duration::from_secs(20),
        account_concurrency: 1_000,
        access: hearth_frontend::AccessConfig {
            always: false,
            sealer: hearth_keys::Sealer::random().ok_or("no random numbers")?,
            failures_per_minute: 60,
        },
    };
    let store = Arc::new(SqliteStore::open(&data.path().join("hearth.db"))?);
    let images = Arc::new(ImageStore::open(data.path())?);
    let containers = Arc::new(Images::open(&data.path().join("images"))?);
    let puller = Arc::new(Puller::new(containers, PullConfig::default()));
    let backend = Arc::new(scripted::Scripted::new());
    let frontend = Arc::new(Frontend::new(config, store, images, puller, backend));
    frontend.resume().await?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        let _ = stop.send(true);
    });
    frontend.serve(listener, stopped).await;
    Ok(())
}
