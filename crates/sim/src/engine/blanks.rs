//! The blanks as the workers have them.

use hearth_types::{InstanceId, Time};

use super::Engine;
use super::agenda::What;

/// One blank.
#[derive(Clone, Copy, Debug)]
struct Blank {
    id: InstanceId,
    worker: u32,
    there: bool,
}

/// All blanks, by number; there are few, and numbers are not used again.
#[derive(Debug, Default)]
pub(super) struct Blanks {
    all: Vec<Blank>,
}

impl Blanks {
    pub(super) fn len(&self) -> usize {
        self.all.iter().filter(|blank| blank.there).count()
    }

    /// A worker died.
    pub(super) fn lose(&mut self, worker: u32) {
        for blank in self.all.iter_mut().filter(|blank| blank.worker == worker) {
            blank.there = false;
        }
    }

    fn find(&mut self, id: InstanceId) -> Option<(u32, &mut Blank)> {
        (0..).zip(&mut self.all).find(|(_, blank)| blank.there && blank.id == id)
    }
}

impl Engine<'_> {
    pub(super) fn make_blank(&mut self, now: u64, id: InstanceId, worker: u32) {
        let number = u32::try_from(self.blanks.all.len()).unwrap_or(u32::MAX);
        self.blanks.all.push(Blank { id, worker, there: true });
        let takes = self.setup.starts.draw(&mut self.starts);
        self.agenda.add(now.saturating_add(takes), What::Blank { blank: number, gone: false });
    }

    pub(super) fn end_blank(&mut self, now: u64, id: InstanceId) {
        if let Some((number, _)) = self.blanks.find(id) {
            self.agenda.add(now + self.setup.starts.end, What::Blank { blank: number, gone: true });
        }
    }

    /// An instance is made of a blank, which must be there.
    pub(super) fn take_blank(&mut self, id: InstanceId, worker: u32) -> Result<(), String> {
        match self.blanks.find(id) {
            Some((_, blank)) if blank.worker == worker => {
                blank.there = false;
                Ok(())
            }
            other => Err(format!("an instance on worker {worker} was to be made of {other:?}")),
        }
    }

    pub(super) fn blank_reports(&mut self, time: Time, number: u32, gone: bool) {
        let Some(blank) = self.blanks.all.get_mut(number as usize).filter(|blank| blank.there) else {
            return;
        };
        blank.there = !gone;
        let Blank { id, worker, .. } = *blank;
        self.control.report_blank(time, worker, id, gone);
    }
}
