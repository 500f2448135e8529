//! Links, addresses and routes, as the kernel is told of them (rtnetlink(7)).

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::thread::ThreadNameSpaceType;

use crate::plan::{LINK_PREFIX, Plan};
use crate::{NetworkError, step, sys};

/// What the link is called inside.
const INSIDE: &str = "eth0";
/// What a machine's link is called in a room of its VMM's own.
pub const TAP: &str = "tap0";
/// What connects the two there.
const BRIDGE: &str = "bridge0";
/// The kernel's answers are shorter.
const MAX_ANSWER: usize = 8_192;

/// The worker's end of every machine's link: a machine that wakes on a new link finds it under the address that it knows.
const WORKERS_MAC: [u8; 6] = [0x02, b'h', b'e', b'a', b'r', b't'];

/// A conversation with the kernel about one network namespace.
struct Route {
    socket: Socket,
}

/// Makes a link between this thread's network namespace and that of a process, with addresses and the way out. The thread stays
/// in the other one: it is of no more use.
pub(crate) fn join(plan: &Plan, group: u32, process: &OwnedFd) -> Result<(), NetworkError> {
    let mut outside = Route::open().map_err(step("speak to the kernel about links"))?;
    let made = move_and_make(plan, group, process, &mut outside);
    if made.is_err() {
        // Half a link is none.
        let _ = outside.remove(&plan.name);
    }
    made
}

fn move_and_make(
    plan: &Plan,
    group: u32,
    process: &OwnedFd,
    outside: &mut Route,
) -> Result<(), NetworkError> {
    let enter = step("enter an instance's network");
    rustix::thread::move_into_thread_name_spaces(process.as_fd(), ThreadNameSpaceType::NETWORK)
        .map_err(|error| enter(error.into()))?;
    let namespace = File::open("/proc/thread-self/ns/net").map_err(&enter)?;
    let mut inside = Route::open().map_err(step("speak to the kernel about links"))?;
    outside.make_pair_anew(plan, group, &namespace).map_err(step("make a link"))?;
    // Instances have IPv4 alone.
    let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{INSIDE}/disable_ipv6"), "1");
    outside.bring_up(&plan.name, plan.gateway).map_err(step("give a link its address"))?;
    let index = inside.bring_up(INSIDE, plan.address).map_err(step("give an instance its address"))?;
    inside.add_way_out(index, plan.gateway).map_err(step("give an instance its way out"))
}

/// Makes a link between this thread's network namespace and a machine that is given what is returned; the link is there for as
/// long as that is open. What is inside is the machine's to set.
pub(crate) fn tap(plan: &Plan, group: u32) -> Result<OwnedFd, NetworkError> {
    let mut route = Route::open().map_err(step("speak to the kernel about links"))?;
    let device = sys::open_tap(&plan.name).map_err(step("make a link (/dev/net/tun)"))?;
    route.put_into(&plan.name, group).map_err(step("put a link under its rules"))?;
    route.bring_up(&plan.name, plan.gateway).map_err(step("give a link its address"))?;
    Ok(device)
}

/// Makes a room for a VMM that finds its machine's link by name: a network namespace with [`TAP`] in it, bridged to one end of a
/// pair whose other end is the worker's link; nothing in it has an address. Without a plan the tap leads nowhere. All goes with
/// the room, and that with the last who is in it or has it open. The thread stays in it: it is of no more use.
pub(crate) fn room(link: Option<(&Plan, u32)>) -> Result<OwnedFd, NetworkError> {
    let speak = step("speak to the kernel about links");
    let mut outside = Route::open().map_err(&speak)?;
    sys::leave_network().map_err(step("make a network namespace"))?;
    let namespace = File::open("/proc/thread-self/ns/net").map_err(step("make a network namespace"))?;
    let mut inside = Route::open().map_err(&speak)?;
    // The bridge would speak IPv6 by itself. A kernel without has no such files.
    for which in ["all", "default"] {
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6"), "1");
    }
    sys::make_tap(TAP).map_err(step("make a link (/dev/net/tun)"))?;
    if let Some((plan, group)) = link {
        let made = connect(plan, group, &namespace, (&mut outside, &mut inside));
        made.inspect_err(|_| {
            // Half a link is none.
            let _ = outside.remove(&plan.name);
        })?;
    }
    inside.set_up(TAP).map_err(step("turn a link on"))?;
    Ok(namespace.into())
}

fn connect(
    plan: &Plan,
    group: u32,
    namespace: &File,
    (outside, inside): (&mut Route, &mut Route),
) -> Result<(), NetworkError> {
    outside.make_pair_anew(plan, group, namespace).map_err(step("make a link"))?;
    outside.put_into(&plan.name, group).map_err(step("put a link under its rules"))?;
    let bridge = inside.make_bridge(BRIDGE).map_err(step("make a bridge (the kernel's module is bridge)"))?;
    for name in [INSIDE, TAP] {
        inside.add_to(bridge, name).map_err(step("add a link to a bridge"))?;
    }
    for name in [INSIDE, BRIDGE] {
        inside.set_up(name).map_err(step("turn a link on"))?;
    }
    outside.bring_up(&plan.name, plan.gateway).map_err(step("give a link its address"))?;
    Ok(())
}

// === impl Route ===

impl Route {
    /// With the network namespace that this thread is in.
    fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket })
    }

    /// The same as [`Self::make_pair`], in place of one that is about to go.
    fn make_pair_anew(&mut self, plan: &Plan, group: u32, namespace: &File) -> io::Result<()> {
        match self.make_pair(plan, group, namespace) {
            // Of an instance that is over, whose namespace the kernel has not taken apart yet.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                // It may be gone by now.
                let _ = self.remove(&plan.name);
                self.make_pair(plan, group, namespace)
            }
            made => made,
        }
    }

    /// A pair of links, one here and one in that namespace. Both are down.
    fn make_pair(&mut self, plan: &Plan, group: u32, namespace: &File) -> io::Result<()> {
        let mut peer = LinkMessage::default();
        peer.attributes =
            vec![LinkAttribute::IfName(INSIDE.to_owned()), LinkAttribute::NetNsFd(namespace.as_raw_fd())];
        let mut link = LinkMessage::default();
        link.attributes = vec![
            LinkAttribute::IfName(plan.name.clone()),
            LinkAttribute::Group(group),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ];
        self.ask(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Has a machine's link be in a group, under the worker's address.
    fn put_into(&mut self, name: &str, group: u32) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = self.number(name)?;
        link.attributes = vec![LinkAttribute::Group(group), LinkAttribute::Address(WORKERS_MAC.to_vec())];
        self.ask(RouteNetlinkMessage::SetLink(link), 0)
    }

    /// A bridge, which is down; its number. It learns nothing: a machine that makes addresses up takes no memory of the worker's.
    fn make_bridge(&mut self, name: &str) -> io::Result<u32> {
        let mut bridge = LinkMessage::default();
        let learns_nothing = vec![InfoBridge::AgeingTime(0), InfoBridge::MulticastSnooping(false)];
        bridge.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Bridge),
                LinkInfo::Data(InfoData::Bridge(learns_nothing)),
            ]),
        ];
        self.ask(RouteNetlinkMessage::NewLink(bridge), NLM_F_CREATE | NLM_F_EXCL)?;
        self.number(name)
    }

    /// Makes a link a port of a bridge.
    fn add_to(&mut self, bridge: u32, name: &str) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = self.number(name)?;
        link.attributes = vec![LinkAttribute::Controller(bridge)];
        self.ask(RouteNetlinkMessage::SetLink(link), 0)
    }

    /// The kernel's number of a link.
    fn number(&self, name: &str) -> io::Result<u32> {
        rustix::net::netdevice::name_to_index(self.socket.as_fd(), name).map_err(Into::into)
    }

    /// Removes a link, and its other end.
    fn remove(&mut self, name: &str) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        self.ask(RouteNetlinkMessage::DelLink(link), 0)
    }

    /// Gives a link an address and has it carry packets; its number.
    fn bring_up(&mut self, name: &str, address: Ipv4Addr) -> io::Result<u32> {
        let index = self.number(name)?;
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = LINK_PREFIX;
        message.header.scope = AddressScope::Universe;
        message.header.index = index;
        let address = IpAddr::V4(address);
        message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
        self.ask(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)?;
        self.set_up(name)?;
        Ok(index)
    }

    /// Has a link carry packets.
    fn set_up(&mut self, name: &str) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = self.number(name)?;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.ask(RouteNetlinkMessage::SetLink(link), 0)
    }

    /// Sends all that is for nobody on the link to its other end.
    fn add_way_out(&mut self, index: u32, gateway: Ipv4Addr) -> io::Result<()> {
        let mut route = RouteMessage::default();
        route.header.address_family = AddressFamily::Inet;
        route.header.table = RouteHeader::RT_TABLE_MAIN;
        route.header.protocol = RouteProtocol::Static;
        route.header.scope = RouteScope::Universe;
        route.header.kind = RouteType::Unicast;
        route.attributes =
            vec![RouteAttribute::Gateway(RouteAddress::Inet(gateway)), RouteAttribute::Oif(index)];
        self.ask(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Asks for one thing and waits for the kernel's answer, which it gives before it returns.
    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut packet = NetlinkMessage::from(message);
        packet.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answer = Vec::with_capacity(MAX_ANSWER);
        self.socket.recv(&mut answer, 0)?;
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
        match answer.payload {
            NetlinkPayload::Error(error) => error.code.map_or(Ok(()), |_| Err(error.to_io())),
            _ => Err(io::Error::other("the kernel answered something else")),
        }
    }
}
