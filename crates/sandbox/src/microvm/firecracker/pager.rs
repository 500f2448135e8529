//! Memory of clones by userfaultfd: pages are copied in when they are asked for, and those that the first clone asked for are
//! copied into later ones before (REAP, Ustiugov et al., ASPLOS 2021).
//!
//! The VMM hands over the descriptor of its memory's faults and says where that memory is. It is believed as little as
//! its guest: an address that is none is the end of it, and all that can be copied is what the machine was saved with.

mod sys;
mod working_set;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde::Deserialize;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::Instant;

pub(super) use working_set::WorkingSets;

use sys::{Copied, Fault};
use working_set::{Recorder, WorkingSet};

/// The size of a page, bytes.
const PAGE: u64 = 4096;
/// As a buffer.
type Page = [u8; 4096];
/// A VMM that loads a machine hands its memory over within this.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most of what it says of it, bytes; it has a region or two.
const MAX_SAID: usize = 4096;
const MAX_REGIONS: usize = 16;
/// Faults that wait while the kernel moves pages; a VMM has no more threads than that.
const MAX_DEFERRED: usize = 1024;
/// Most pages that are copied in at once where a machine's memory is gone through in order, as when it is saved.
const MAX_AHEAD: u64 = 256;
/// What a first clone asks for within this is what later ones will.
const RECORDING: Duration = Duration::from_secs(5);

/// A region of the guest's memory, as the VMM says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
struct Region {
    base_host_virt_addr: u64,
    size: u64,
    offset: u64,
}

/// Where a machine's memory is: in the VMM, and in the file.
#[derive(Debug)]
struct Layout(Vec<Region>);

/// Serves one machine's memory for as long as that lives.
#[derive(Debug)]
struct Pager {
    faults: AsyncFd<OwnedFd>,
    layout: Layout,
    memory: Arc<File>,
    /// Pages that the guest has given back, and that are zero from then on.
    given_back: Vec<u64>,
    deferred: VecDeque<u64>,
    ahead: Ahead,
    buffer: Vec<u8>,
}

/// How many pages to copy in where one is asked for: more, the longer each is the one after the last.
#[derive(Debug, Default)]
struct Ahead {
    next: u64,
    pages: u64,
}

/// Has a machine's memory be served from `memory` once its VMM connects. The listener is in its jail.
pub(super) fn serve(listener: UnixListener, memory: File, sets: Arc<WorkingSets>) {
    tokio::spawn(async move {
        let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
        drop(listener);
        let served = match accepted {
            Ok(Ok((socket, _))) => serve_on(socket, memory, sets).await,
            Ok(Err(error)) => Err(error),
            // It did not get so far; why not is told where it was started.
            Err(_late) => Ok(()),
        };
        if let Err(error) = served {
            tracing::warn!(%error, "a machine's memory is no longer served: it will hang, and be ended");
        }
    });
}

async fn serve_on(socket: UnixStream, memory: File, sets: Arc<WorkingSets>) -> io::Result<()> {
    let memory_bytes = memory.metadata()?.len();
    let (said, faults) = tokio::time::timeout(PATIENCE, hand_over(&socket)).await??;
    let layout = Layout::read(&said, memory_bytes)?;
    let memory = Arc::new(memory);
    let set = sets.of(&memory)?;
    let (faults, layout) = prefetched(faults, layout, &memory, &set).await?;
    let recorder = match set.recorded() {
        Some(_) => None,
        None => set.record(),
    };
    let words = usize::try_from(memory_bytes.div_ceil(PAGE).div_ceil(64)).map_err(io::Error::other)?;
    let mut pager = Pager {
        faults: sys::watch(faults)?,
        layout,
        memory,
        given_back: vec![0; words],
        deferred: VecDeque::new(),
        ahead: Ahead::default(),
        buffer: Vec::new(),
    };
    pager.run(&set, recorder).await
}

/// What the VMM says, and the descriptor that comes with it.
async fn hand_over(socket: &UnixStream) -> io::Result<(Vec<u8>, OwnedFd)> {
    let mut said = vec![0; MAX_SAID];
    let (count, fd) = socket
        .async_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC;
            let message =
                rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut said)], &mut control, flags)?;
            let fd = control.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                _ => None,
            });
            Ok((message.bytes, fd))
        })
        .await?;
    said.truncate(count);
    let fd = fd.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no descriptor came"))?;
    // Whatever else it could be would do something else when it is read.
    let kind = rustix::fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new())?;
    if kind.as_bytes() != b"anon_inode:[userfaultfd]" {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the descriptor is another"));
    }
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
    Ok((said, fd))
}

/// Copies the recorded pages in, where there are any.
async fn prefetched(
    faults: OwnedFd,
    layout: Layout,
    memory: &Arc<File>,
    set: &Arc<WorkingSet>,
) -> io::Result<(OwnedFd, Layout)> {
    if set.recorded().is_none() {
        return Ok((faults, layout));
    }
    let (memory, set) = (Arc::clone(memory), Arc::clone(set));
    let copied = tokio::task::spawn_blocking(move || {
        prefetch(&faults, &layout, &memory, set.recorded().unwrap_or_default())?;
        Ok((faults, layout))
    });
    copied.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn prefetch(faults: &OwnedFd, layout: &Layout, memory: &File, set: &[(u64, u64)]) -> io::Result<()> {
    let mut buffer: Page = [0; _];
    let mut pages = 0_u64;
    for (from, count) in set {
        for page in *from..from + count {
            let Some(address) = layout.address_of(page * PAGE) else { continue };
            read_page(memory, page * PAGE, &mut buffer)?;
            // What is there already was faster than this.
            if matches!(sys::copy(faults.as_fd(), address, &buffer)?, Copied::Done) {
                pages += 1;
            }
        }
    }
    tracing::debug!(pages, "prefetched a working set");
    Ok(())
}

fn read_page(memory: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    memory.read_exact_at(buffer, offset)
}

// === impl Layout ===

impl Layout {
    fn read(said: &[u8], memory_bytes: u64) -> io::Result<Self> {
        let wrong = |what: &'static str| io::Error::new(io::ErrorKind::InvalidData, what);
        let regions: Vec<Region> =
            serde_json::from_slice(said).map_err(|_| wrong("the memory's description is none"))?;
        let fits = |region: &Region| {
            let end = region.offset.checked_add(region.size);
            let aligned =
                [region.base_host_virt_addr, region.size, region.offset].iter().all(|n| n % PAGE == 0);
            aligned
                && end.is_some_and(|end| end <= memory_bytes)
                && region.base_host_virt_addr.checked_add(region.size).is_some()
        };
        if regions.is_empty() || regions.len() > MAX_REGIONS || !regions.iter().all(fits) {
            return Err(wrong("the memory's regions cannot be"));
        }
        Ok(Self(regions))
    }

    /// Where in the file the page of an address is.
    fn offset_of(&self, address: u64) -> Option<u64> {
        let page = address - address % PAGE;
        self.0.iter().find_map(|region| {
            let into = page.checked_sub(region.base_host_virt_addr).filter(|into| *into < region.size)?;
            Some(region.offset + into)
        })
    }

    /// Bytes from a place of the file to the end of its region.
    fn rest_of_region(&self, offset: u64) -> u64 {
        let rest = |region: &Region| {
            let into = offset.checked_sub(region.offset).filter(|into| *into < region.size)?;
            Some(region.size - into)
        };
        self.0.iter().find_map(rest).unwrap_or(0)
    }

    /// Where in the VMM a place of the file is.
    fn address_of(&self, offset: u64) -> Option<u64> {
        self.0.iter().find_map(|region| {
            let into = offset.checked_sub(region.offset).filter(|into| *into < region.size)?;
            Some(region.base_host_virt_addr + into)
        })
    }
}

// === impl Ahead ===

impl Ahead {
    /// How many pages to copy in, with that one.
    fn at(&mut self, page: u64) -> u64 {
        self.pages = if page == self.next { (self.pages * 2).clamp(1, MAX_AHEAD) } else { 1 };
        self.pages
    }
}

// === impl Pager ===

impl Pager {
    async fn run(&mut self, set: &WorkingSet, mut recorder: Option<Recorder>) -> io::Result<()> {
        let until = Instant::now() + RECORDING;
        loop {
            let ready = match &recorder {
                Some(_) => tokio::time::timeout_at(until, self.faults.readable()).await,
                None => Ok(self.faults.readable().await),
            };
            let Ok(ready) = ready else {
                if let Some(recorder) = recorder.take() {
                    set.finish(recorder);
                }
                continue;
            };
            let mut ready = ready?;
            let events = match sys::read(self.faults.get_ref().as_fd()) {
                Ok(events) => events,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready();
                    continue;
                }
                // The VMM is gone, and its memory with it.
                Err(_gone) => return Ok(()),
            };
            drop(ready);
            if events.is_empty() {
                return Ok(());
            }
            for event in events {
                match event {
                    Fault::At(address) => self.deferred.push_back(address),
                    Fault::GivenBack { start, end } => self.give_back(start, end),
                    Fault::Other => {}
                }
            }
            if self.deferred.len() > MAX_DEFERRED {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "more faults than threads"));
            }
            if !self.serve_deferred(recorder.as_mut())? {
                return Ok(());
            }
        }
    }

    /// Fills in the pages that are asked for, as far as the kernel takes them now. False when the VMM is gone.
    fn serve_deferred(&mut self, mut recorder: Option<&mut Recorder>) -> io::Result<bool> {
        for _ in 0..self.deferred.len() {
            let Some(address) = self.deferred.pop_front() else { break };
            let page = address - address % PAGE;
            let offset = self.layout.offset_of(page);
            let offset = offset
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a fault outside of the memory"))?;
            let copied = if self.is_given_back(offset) {
                sys::zero(self.faults.get_ref().as_fd(), page, PAGE)?
            } else {
                if let Some(recorder) = recorder.as_deref_mut() {
                    recorder.note(offset / PAGE);
                }
                self.copy_in(page, offset)?
            };
            match copied {
                Copied::Done | Copied::WasThere => {}
                Copied::Later => self.deferred.push_back(address),
                Copied::Gone => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Copies the page in, and those after it if it is one of a row.
    fn copy_in(&mut self, address: u64, offset: u64) -> io::Result<Copied> {
        let wanted = self.ahead.at(offset / PAGE);
        let row = self.layout.rest_of_region(offset) / PAGE;
        let is_there = |ahead: &u64| !self.is_given_back(offset + ahead * PAGE);
        let count = (0..wanted.min(row)).take_while(is_there).count().max(1);
        self.buffer.resize(count * size_of::<Page>(), 0);
        read_page(&self.memory, offset, &mut self.buffer)?;
        let (faults, (first, _)) = (self.faults.get_ref().as_fd(), self.buffer.split_at(size_of::<Page>()));
        let copied = sys::copy(faults, address, &self.buffer)?;
        if copied == Copied::Done {
            self.ahead.next = offset / PAGE + count as u64;
            return Ok(copied);
        }
        // Some of them were there, perhaps not the one that counts.
        self.ahead.next = offset / PAGE + 1;
        sys::copy(faults, address, first)
    }

    fn is_given_back(&self, offset: u64) -> bool {
        let page = offset / PAGE;
        let word = usize::try_from(page / 64).ok().and_then(|word| self.given_back.get(word));
        word.is_some_and(|word| word >> (page % 64) & 1 == 1)
    }

    fn give_back(&mut self, start: u64, end: u64) {
        let (layout, given_back) = (&self.layout, &mut self.given_back);
        for region in &layout.0 {
            let last = region.base_host_virt_addr + region.size;
            let (from, to) = (start.max(region.base_host_virt_addr), end.min(last));
            let mut address = from;
            while address < to {
                let page = (address - region.base_host_virt_addr + region.offset) / PAGE;
                let word = usize::try_from(page / 64).ok().and_then(|word| given_back.get_mut(word));
                if let Some(word) = word {
                    *word |= 1 << (page % 64);
                }
                address += PAGE;
            }
        }
    }
}

/// Whether jailed VMMs can be given memory this way here: only where the device is, as they are no users of privilege.
pub(super) fn is_offered() -> bool {
    let setting = std::fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd").unwrap_or_default();
    std::path::Path::new("/dev/userfaultfd").exists() || setting.trim() == "1"
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &[u8] =
        br#"[{"base_host_virt_addr":65536,"size":8192,"offset":0,"page_size":4096,"page_size_kib":4096},
        {"base_host_virt_addr":1048576,"size":4096,"offset":8192}]"#;

    #[test]
    fn addresses_and_places_of_the_file_belong_together() {
        let layout = Layout::read(SAID, 12_288).unwrap();
        assert_eq!(layout.offset_of(65_536 + 4_100), Some(4_096));
        assert_eq!(layout.offset_of(1_048_576 + 1), Some(8_192));
        for outside in [0, 65_535, 65_536 + 8_192, 1_048_576 + 4_096, u64::MAX] {
            assert_eq!(layout.offset_of(outside), None, "{outside}");
        }
        for page in 0..3 {
            let address = layout.address_of(page * PAGE).unwrap();
            assert_eq!(layout.offset_of(address), Some(page * PAGE));
        }
        assert_eq!(layout.address_of(12_288), None);
    }

    #[test]
    fn pages_in_a_row_are_copied_in_ever_more_at_once_and_others_alone() {
        let mut ahead = Ahead::default();
        let mut page = 1000;
        for wanted in [1, 2, 4, 8, 16, 32, 64, 128, 256, 256] {
            assert_eq!(ahead.at(page), wanted);
            page += wanted;
            ahead.next = page;
        }
        assert_eq!(ahead.at(7), 1);
        let layout = Layout::read(SAID, 12_288).unwrap();
        assert_eq!((layout.rest_of_region(4_096), layout.rest_of_region(8_192)), (4_096, 4_096));
    }

    #[test]
    fn regions_that_cannot_be_are_refused() {
        let one = |base: u64, size: u64, offset: u64| {
            format!(r#"[{{"base_host_virt_addr":{base},"size":{size},"offset":{offset}}}]"#).into_bytes()
        };
        Layout::read(&one(4_096, 4_096, 0), 4_096).unwrap();
        let max = u64::MAX - PAGE + 1;
        let wrong = [
            one(4_096, 8_192, 0),
            one(4_096, 4_096, 4_096),
            one(4_097, 4_096, 0),
            one(max, 4_096, 0),
            one(4_096, 4_096, max),
            b"[]".to_vec(),
            b"{".to_vec(),
            Vec::new(),
        ];
        for said in wrong {
            assert!(Layout::read(&said, 4_096).is_err(), "{}", String::from_utf8_lossy(&said));
        }
    }
}
