//! Container images: what they are made of, where they are kept, and how they become directories.
//!
//! Everything in an image is hostile, and everything is named by what is in it. All of this blocks but `pull`; async callers use a
//! blocking thread.
//!
//! ```text
//! root/blobs/<sha256>               manifests, configurations and layers, as they came; checked when written
//! root/layers/<sha256>/             a layer, unpacked; named by the hash of its tar archive, and shared by all images
//! root/repositories/ACCOUNT/NAME/   what of it an account has put there: tags, manifests, blobs
//! root/tmp/                         what is half made: removed by the next open
//! root/boot                         the boot of the machine that `layers` was made in
//! ```
//!
//! | module | what it decides |
//! |---|---|
//! | `digest`, `reference` | names: of content, and of images in registries |
//! | `manifest`, `config` | documents, parsed within bounds |
//! | `blobs` | content on disk |
//! | `tar`, `unpack` | what a layer's archive may do |
//! | `accounts` | whom an image's `USER` means |
//! | `images` | an image made ready to run, and what of all this may be removed |
//! | `repositories` | who has put what where |
//! | `pull`, `receive` | how images come from other registries |

mod accounts;
mod blobs;
mod config;
mod digest;
mod error;
mod images;
mod manifest;
mod pull;
mod receive;
mod reference;
mod repositories;
mod tar;
mod unpack;

pub use accounts::{Account, Accounts};
pub use blobs::{Blobs, Upload};
pub use config::{ImageConfig, RunConfig};
pub use digest::{Digest, InvalidDigest};
pub use error::OciError;
pub use images::{Images, ReadyImage};
pub use manifest::{Descriptor, Document, Index, MANIFEST_BYTES, Manifest, Platform, media};
pub use pull::{PullConfig, PullError, Puller};
pub use receive::{ReceiveError, receive};
pub use reference::{InvalidReference, Reference, is_repository, is_tag};
pub use repositories::{Repositories, Repository};
