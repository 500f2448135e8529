//! Which services Hearth gets code and messages from that speak AWS's protocols, and as whom.

use anyhow::Context;
use clap::Args;
use hearth_aws::{Account, Endpoint, S3, Sqs};

/// What can be told about services that Hearth asks.
#[derive(Args, Clone, Debug)]
pub(crate) struct AwsArgs {
    /// Where S3, or what speaks as S3 does, is: code that requests name by bucket and key comes from there
    #[arg(long, env = "HEARTH_S3_ENDPOINT", value_name = "URL")]
    s3_endpoint: Option<Endpoint>,
    /// Where SQS, or what speaks as SQS does, is: event source mappings and destinations name its queues
    #[arg(long, env = "HEARTH_SQS_ENDPOINT", value_name = "URL")]
    sqs_endpoint: Option<Endpoint>,
    /// The access key that Hearth signs its own requests to those services with [default: they are not signed]
    #[arg(long, env = "HEARTH_AWS_ACCESS_KEY_ID", value_name = "KEY", requires = "aws_secret_access_key")]
    aws_access_key_id: Option<String>,
    /// Its secret; better in the environment, where no list of processes shows it
    #[arg(
        long,
        env = "HEARTH_AWS_SECRET_ACCESS_KEY",
        value_name = "SECRET",
        hide_env_values = true,
        requires = "aws_access_key_id"
    )]
    aws_secret_access_key: Option<String>,
}

impl AwsArgs {
    pub(crate) fn s3(&self, region: &str) -> anyhow::Result<Option<S3>> {
        let Some(endpoint) = &self.s3_endpoint else { return Ok(None) };
        let s3 = S3::new(endpoint.clone(), self.account(region));
        s3.map(Some).context("cannot read the certificates that TLS needs")
    }

    pub(crate) fn sqs(&self, region: &str) -> anyhow::Result<Option<Sqs>> {
        let Some(endpoint) = &self.sqs_endpoint else { return Ok(None) };
        let sqs = Sqs::new(endpoint.clone(), self.account(region));
        sqs.map(Some).context("cannot read the certificates that TLS needs")
    }

    fn account(&self, region: &str) -> Account {
        let key = self.aws_access_key_id.as_deref().zip(self.aws_secret_access_key.as_deref());
        Account::new(region, key)
    }
}
