//! The guest itself: one page of machine code in 64-bit mode, no devices.
#![expect(unsafe_code, reason = "guest memory is shared with the kernel, which safe Rust cannot express")]

use std::io;
use std::time::{Duration, Instant};

use kvm_bindings::{kvm_regs, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};

use super::KvmError;

const MEMORY_BYTES: usize = 2 << 20;
const CODE: usize = 0x1000;
const LEVEL_4: usize = 0x2000;
const LEVEL_3: usize = 0x3000;
const LEVEL_2: usize = 0x4000;
/// Page table bits: present and writable; and, in the second level, a 2 MiB page.
const TABLE: u64 = 0x3;
const LARGE_PAGE: u64 = 0x83;
/// Protected mode, paging and what a kernel sets beside (Intel SDM vol. 3, 2.5).
const CR0: u64 = 0x8005_0033;
const CR4_PAE: u64 = 0x20;
const EFER_LONG_MODE: u64 = 0x500;

/// Runs a guest that executes about `instructions`, and says how long it took.
pub(super) fn run_guest(instructions: u64) -> Result<Duration, KvmError> {
    let failed = |step| move |error: kvm_ioctls::Error| KvmError::Run { step, source: error.into() };
    let kvm = Kvm::new().map_err(|error| KvmError::Open(error.into()))?;
    let vm = kvm.create_vm().map_err(failed("make a virtual machine"))?;
    // Declared before the virtual CPU, so that it is unmapped after it.
    let memory = GuestMemory::new(&program(instructions))
        .map_err(|source| KvmError::Run { step: "map the guest's memory", source })?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: MEMORY_BYTES as u64,
        userspace_addr: memory.address as u64,
    };
    // SAFETY: the region is mapped for as long as `memory` lives, which is longer than the machine runs.
    unsafe { vm.set_user_memory_region(region) }.map_err(failed("give the guest its memory"))?;
    let mut vcpu = vm.create_vcpu(0).map_err(failed("make a virtual CPU"))?;
    enter_long_mode(&vcpu).map_err(failed("set the virtual CPU up"))?;
    let start = Instant::now();
    match vcpu.run().map_err(failed("run the guest"))? {
        VcpuExit::Hlt => Ok(start.elapsed()),
        other => Err(KvmError::Stopped { exit: format!("{other:?}") }),
    }
}

/// `mov ecx, n; again: dec ecx; jnz again; hlt`, two instructions a round.
fn program(instructions: u64) -> Vec<u8> {
    let rounds = u32::try_from(instructions / 2).unwrap_or(u32::MAX).max(1);
    let mut code = vec![0xb9];
    code.extend(rounds.to_le_bytes());
    code.extend([0xff, 0xc9, 0x75, 0xfc, 0xf4]);
    code
}

fn enter_long_mode(vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    let mut special = vcpu.get_sregs()?;
    let code = kvm_segment {
        limit: u32::MAX,
        selector: 8,
        present: 1,
        type_: 11,
        s: 1,
        l: 1,
        g: 1,
        ..Default::default()
    };
    let data = kvm_segment { selector: 16, type_: 3, l: 0, db: 1, ..code };
    special.cs = code;
    (special.ds, special.es, special.fs, special.gs, special.ss) = (data, data, data, data, data);
    (special.cr0, special.cr3, special.cr4, special.efer) = (CR0, LEVEL_4 as u64, CR4_PAE, EFER_LONG_MODE);
    vcpu.set_sregs(&special)?;
    vcpu.set_regs(&kvm_regs { rip: CODE as u64, rflags: 2, ..Default::default() })
}

/// Anonymous memory that a guest sees as its own from address zero.
struct GuestMemory {
    address: *mut libc::c_void,
}

impl GuestMemory {
    fn new(code: &[u8]) -> io::Result<Self> {
        // SAFETY: a fresh anonymous mapping; no other memory is touched.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                MEMORY_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the mapping is `MEMORY_BYTES` long, readable, writable, zeroed, and only this function knows of it.
        let bytes = unsafe { std::slice::from_raw_parts_mut(address.cast::<u8>(), MEMORY_BYTES) };
        bytes[CODE..][..code.len()].copy_from_slice(code);
        bytes[LEVEL_4..][..8].copy_from_slice(&(LEVEL_3 as u64 | TABLE).to_le_bytes());
        bytes[LEVEL_3..][..8].copy_from_slice(&(LEVEL_2 as u64 | TABLE).to_le_bytes());
        bytes[LEVEL_2..][..8].copy_from_slice(&LARGE_PAGE.to_le_bytes());
        Ok(Self { address })
    }
}

impl Drop for GuestMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, unmapped once.
        unsafe { libc::munmap(self.address, MEMORY_BYTES) };
    }
}
