//! QEMU's command line for one machine: as little device as possible, and no path of the host but its own program's.

use std::os::fd::RawFd;

use super::Accelerator;

/// Translated code that a clone keeps under emulation, MiB: every clone has this buffer to itself. QEMU's own choice is a
/// gigabyte; with 8 MiB Python's start takes no longer than with 32.
const TRANSLATION_BUFFER_MB: u32 = 32;
/// Every machine's network device has this address: there is no other on its link but the worker.
const MAC: &str = "02:66:75:6e:63:74";

/// What a machine is made of. All numbers of files are those that QEMU inherits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) accelerator: Accelerator,
    pub(super) memory_mb: u64,
    pub(super) vcpus: u32,
    /// The agent's byte stream, QMP and the serial console: connected sockets.
    pub(super) link: RawFd,
    pub(super) monitor: RawFd,
    pub(super) console: RawFd,
    pub(super) memory: Memory,
    /// Root, code and scratch.
    pub(super) disks: [RawFd; 3],
    pub(super) network: Nic,
    pub(super) start: Start,
}

/// Where the machine's memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    /// In a file that is written, for a template.
    Shared(RawFd),
    /// A copy, made page by page as pages are written, of what is in a sealed file.
    CopyOnWrite(RawFd),
    /// The machine's own.
    Own,
}

/// Its network device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nic {
    /// There is none.
    Absent,
    /// One that leads nowhere, in a template.
    Unconnected,
    /// One that is this link's other end.
    Tap(RawFd),
}

/// How the machine comes to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// From power-on.
    Boot { kernel: String, initramfs: String, command_line: String },
    /// From a saved state, which QMP is told of.
    Restore,
}

/// The arguments.
pub(super) fn arguments(parts: &Parts) -> Vec<String> {
    let mut all = Vec::with_capacity(64);
    let mut add = |name: &str, value: String| all.extend([format!("-{name}"), value]);
    add("machine", "microvm,memory-backend=memory,x-option-roms=off,graphics=off,usb=off".to_owned());
    match parts.accelerator {
        Accelerator::Kvm => {
            add("accel", "kvm".to_owned());
            add("cpu", "host".to_owned());
        }
        Accelerator::Tcg => {
            add("accel", format!("tcg,tb-size={TRANSLATION_BUFFER_MB}"));
            add("cpu", "max".to_owned());
        }
    }
    add("smp", parts.vcpus.to_string());
    add("m", format!("{}M", parts.memory_mb));
    let memory = |kind: &str| format!("{kind},id=memory,size={}M", parts.memory_mb);
    // QEMU opens the file for writing whatever it is for: the file of a template that is in use is sealed.
    let file = |fd: RawFd, share: &str| {
        format!("{},share={share},mem-path=/proc/self/fd/{fd}", memory("memory-backend-file"))
    };
    add(
        "object",
        match parts.memory {
            Memory::Shared(fd) => file(fd, "on"),
            Memory::CopyOnWrite(fd) => file(fd, "off"),
            Memory::Own => memory("memory-backend-ram"),
        },
    );
    let socket = |id: &str, fd: RawFd| format!("socket,id={id},fd={fd}");
    add("chardev", socket("console", parts.console));
    add("serial", "chardev:console".to_owned());
    add("chardev", socket("monitor", parts.monitor));
    add("mon", "chardev=monitor,mode=control".to_owned());
    add("chardev", socket("link", parts.link));
    add("device", "virtio-serial-device,max_ports=2".to_owned());
    add("device", "virtserialport,chardev=link,name=hearth".to_owned());
    for (number, fd) in parts.disks.into_iter().enumerate() {
        let access = if number == 2 { "discard=unmap" } else { "read-only=on" };
        add("add-fd", format!("fd={fd},set={number}"));
        add(
            "blockdev",
            format!("driver=file,node-name=disk{number},filename=/dev/fdset/{number},locking=off,{access}"),
        );
        add("device", format!("virtio-blk-device,drive=disk{number}"));
    }
    let device = format!("virtio-net-device,netdev=network,mac={MAC}");
    match parts.network {
        Nic::Absent => {}
        Nic::Unconnected => {
            add("netdev", "hubport,id=network,hubid=0".to_owned());
            add("device", device);
        }
        Nic::Tap(fd) => {
            add("netdev", format!("tap,id=network,fd={fd}"));
            add("device", device);
        }
    }
    match &parts.start {
        Start::Boot { kernel, initramfs, command_line } => {
            add("kernel", kernel.clone());
            add("initrd", initramfs.clone());
            add("append", command_line.clone());
        }
        Start::Restore => add("incoming", "defer".to_owned()),
    }
    add("sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".to_owned());
    // A saved machine says nothing of whether it ran: whoever is made from it runs.
    add("global", "migration.store-global-state=off".to_owned());
    all.extend(["-nodefaults", "-no-user-config", "-nographic", "-no-reboot"].map(str::to_owned));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(start: Start, memory: Memory) -> Parts {
        Parts {
            accelerator: Accelerator::Tcg,
            memory_mb: 192,
            vcpus: 1,
            link: 10,
            monitor: 11,
            console: 12,
            memory,
            disks: [20, 21, 22],
            network: Nic::Absent,
            start,
        }
    }

    #[test]
    fn a_clone_maps_its_template_privately_and_writes_one_disk_alone() {
        let all = arguments(&parts(Start::Restore, Memory::CopyOnWrite(13)));
        assert!(all.iter().any(|word| word.contains("share=off") && word.ends_with("/proc/self/fd/13")));
        let disks: Vec<_> = all.iter().filter(|word| word.starts_with("driver=file")).collect();
        assert_eq!(disks.iter().filter(|word| word.contains("read-only=on")).count(), 2);
        assert!(disks[2].contains("/dev/fdset/2") && disks[2].contains("discard=unmap"));
        assert!(!all.iter().any(|word| word == "-kernel"));
    }

    #[test]
    fn no_machine_has_a_network_or_a_device_that_was_not_asked_for() {
        let all = arguments(&parts(Start::Restore, Memory::Own));
        assert!(all.iter().any(|word| word == "-nodefaults"));
        let devices: Vec<_> =
            all.windows(2).filter(|pair| pair[0] == "-device").map(|pair| pair[1].as_str()).collect();
        assert_eq!(devices.len(), 5);
        assert!(!all.iter().any(|word| word.contains("net")), "{all:?}");
    }

    #[test]
    fn a_template_has_the_network_device_of_its_clones_and_no_link() {
        let with = |network| arguments(&Parts { network, ..parts(Start::Restore, Memory::Own) });
        let (template, clone) = (with(Nic::Unconnected), with(Nic::Tap(30)));
        let device = |all: &[String]| all.iter().find(|word| word.starts_with("virtio-net-device")).cloned();
        assert!(device(&template).is_some() && device(&template) == device(&clone));
        assert!(clone.iter().any(|word| word == "tap,id=network,fd=30"));
        assert!(!template.iter().any(|word| word.starts_with("tap,")));
    }
}
