//! A doubly linked list whose links lie in the instances themselves, so that an instance moves from one list to another
//! in constant time and without allocation.
//!
//! An instance can be in one list of each [`Order`]. A list does not know its members' order of the other kind.

use slotmap::SlotMap;

use crate::instance::{Instance, InstanceKey};

/// Which of an instance's links a list goes through.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// Among the instances of its pool with the same load.
    Pool,
    /// Among all instances that take requests.
    Service,
    /// Among those of one worker that take requests.
    Worker,
}

/// An instance's neighbours in a list.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Links {
    newer: Option<InstanceKey>,
    older: Option<InstanceKey>,
}

/// Instances from the most to the least recently added.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    order: Order,
    newest: Option<InstanceKey>,
    oldest: Option<InstanceKey>,
}

impl List {
    pub(crate) const fn new(order: Order) -> Self {
        Self { order, newest: None, oldest: None }
    }

    pub(crate) const fn newest(&self) -> Option<InstanceKey> {
        self.newest
    }

    pub(crate) const fn oldest(&self) -> Option<InstanceKey> {
        self.oldest
    }

    /// Adds an instance that is in no list of this order.
    pub(crate) fn add(&mut self, instances: &mut SlotMap<InstanceKey, Instance>, key: InstanceKey) {
        self.link(instances, Some(key), self.newest);
        self.link(instances, None, Some(key));
    }

    /// Removes an instance that is in this list.
    pub(crate) fn remove(&mut self, instances: &mut SlotMap<InstanceKey, Instance>, key: InstanceKey) {
        let Some(links) = instances.get(key).map(|instance| *instance.links(self.order)) else { return };
        self.link(instances, links.newer, links.older);
        if let Some(instance) = instances.get_mut(key) {
            *instance.links_mut(self.order) = Links::default();
        }
    }

    /// The instances, most recently added first.
    pub(crate) fn iter<'a>(
        &self,
        instances: &'a SlotMap<InstanceKey, Instance>,
    ) -> impl Iterator<Item = InstanceKey> + use<'a> {
        let order = self.order;
        std::iter::successors(self.newest, move |&key| instances.get(key)?.links(order).older)
    }

    /// Makes two instances neighbours; nothing stands for an end of the list.
    fn link(
        &mut self,
        instances: &mut SlotMap<InstanceKey, Instance>,
        newer: Option<InstanceKey>,
        older: Option<InstanceKey>,
    ) {
        match newer.and_then(|key| instances.get_mut(key)) {
            Some(instance) => instance.links_mut(self.order).older = older,
            None => self.newest = older,
        }
        match older.and_then(|key| instances.get_mut(key)) {
            Some(instance) => instance.links_mut(self.order).newer = newer,
            None => self.oldest = newer,
        }
    }
}
