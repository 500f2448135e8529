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
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
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
    match outside.make_pair(plan, group, &namespace) {
        // Of an instance that is over, whose namespace the kernel has not taken apart yet.
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
            outside.remove(&plan.name).and_then(|()| outside.make_pair(plan, group, &namespace))
        }
        made => made,
    }
    .map_err(step("make a link"))?;
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

// === impl Route ===

impl Route {
    /// With the network namespace that this thread is in.
    fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket })
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
        link.header.index = rustix::net::netdevice::name_to_index(self.socket.as_fd(), name)?;
        link.attributes = vec![LinkAttribute::Group(group), LinkAttribute::Address(WORKERS_MAC.to_vec())];
        self.ask(RouteNetlinkMessage::SetLink(link), 0)
    }

    /// Removes a link, and its other end.
    fn remove(&mut self, name: &str) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        self.ask(RouteNetlinkMessage::DelLink(link), 0)
    }

    /// Gives a link an address and has it carry packets; its number.
    fn bring_up(&mut self, name: &str, address: Ipv4Addr) -> io::Result<u32> {
        let index = rustix::net::netdevice::name_to_index(self.socket.as_fd(), name)?;
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = LINK_PREFIX;
        message.header.scope = AddressScope::Universe;
        message.header.index = index;
        let address = IpAddr::V4(address);
        message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
        self.ask(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)?;
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.ask(RouteNetlinkMessage::SetLink(link), 0)?;
        Ok(index)
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
