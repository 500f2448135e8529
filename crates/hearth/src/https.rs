//! HTTPS beside HTTP: its listener, and where its certificates come from.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use hearth_frontend::{Backend, Certificates, Frontend};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::acme::{Acme, AcmeArgs};
use crate::cli::listen_address;
use crate::data_dir::DataDir;

/// How `hearth dev` serves HTTPS.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct HttpsArgs {
    /// Where to listen for HTTPS besides, with --tls-cert and --tls-key or with --acme-domain
    #[arg(long, env = "HEARTH_TLS_LISTEN", value_name = "ADDR", requires = "certificate", value_parser = listen_address)]
    tls_listen: Option<SocketAddr>,
    /// The certificate with its chain, PEM; read again when it changes, and at SIGHUP
    #[arg(long, env = "HEARTH_TLS_CERT", value_name = "FILE", requires_all = ["tls_listen", "tls_key"])]
    tls_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, env = "HEARTH_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    #[command(flatten)]
    acme: AcmeArgs,
}

/// A listener for HTTPS that is to serve.
pub(crate) struct Https {
    listener: TcpListener,
    source: Source,
}

/// Where certificates come from.
enum Source {
    Files(Arc<Certificates>),
    Authority(Box<Acme>),
}

impl HttpsArgs {
    /// Where to listen, if anywhere.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.tls_listen
    }

    /// Whether certificates are in files, which are read again at SIGHUP.
    pub(crate) fn reads_files(&self) -> bool {
        self.tls_cert.is_some()
    }
}

impl Https {
    /// Listens, if it is asked for; nobody is served before [`Self::serve`].
    ///
    /// # Errors
    /// The certificate cannot serve, or the address is not to be had.
    pub(crate) async fn listen(args: &HttpsArgs, data: &DataDir) -> anyhow::Result<Option<Self>> {
        let Some(address) = args.tls_listen else { return Ok(None) };
        let source = Source::of(args, data)?;
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("cannot listen on {address}: is something else there? Choose another with --tls-listen")
        })?;
        Ok(Some(Self { listener, source }))
    }

    /// Serves from when there is a certificate, which is kept fresh, until it is told to stop.
    pub(crate) async fn serve<B: Backend>(
        self,
        frontend: Arc<Frontend<B>>,
        mut stopped: watch::Receiver<bool>,
    ) {
        let challenges = frontend.challenges();
        let (certificates, acme) = match self.source {
            Source::Files(certificates) => (certificates, None),
            Source::Authority(acme) => {
                let first = tokio::select! {
                    first = acme.first(&challenges) => first,
                    // An error means that nobody is left who could say stop, which says it.
                    _ = stopped.wait_for(|stop| *stop) => return,
                };
                (first, Some(acme))
            }
        };
        let keeping = tokio::spawn({
            let certificates = Arc::clone(&certificates);
            async move {
                match acme {
                    Some(acme) => acme.keep(&challenges, &certificates).await,
                    None => read_certificates(certificates).await,
                }
            }
        });
        frontend.serve_tls(self.listener, certificates, stopped).await;
        keeping.abort();
    }
}

impl Source {
    fn of(args: &HttpsArgs, data: &DataDir) -> anyhow::Result<Self> {
        if args.acme.wanted() {
            return Ok(Self::Authority(Box::new(Acme::new(&args.acme, data.certificates())?)));
        }
        let (Some(cert), Some(key)) = (&args.tls_cert, &args.tls_key) else {
            anyhow::bail!("--tls-listen needs --tls-cert and --tls-key, or --acme-domain");
        };
        Ok(Self::Files(Arc::new(Certificates::open(cert.clone(), key.clone())?)))
    }
}

/// Has certificates read again when their files change, and when the process is told to (SIGHUP).
async fn read_certificates(certificates: Arc<Certificates>) {
    let told = async {
        let Ok(mut hangups) = signal(SignalKind::hangup()) else { return };
        while hangups.recv().await.is_some() {
            match certificates.reload() {
                Ok(()) => tracing::info!("read the certificate again"),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "the certificate is not used; the one before serves on");
                }
            }
        }
    };
    tokio::join!(told, certificates.follow());
}
