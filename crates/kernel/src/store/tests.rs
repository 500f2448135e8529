//! A kernel from what distributions ship, made small.

use std::io::Write;

use super::*;

const CONFIG: &str = "CONFIG_VIRTIO_MMIO=y\nCONFIG_VIRTIO_BLK=y\nCONFIG_EROFS_FS=y\nCONFIG_EXT4_FS=y\nCONFIG_ACPI=y\n\
    CONFIG_DEVTMPFS=y\nCONFIG_MEMCG=y\nCONFIG_CGROUP_PIDS=y\nCONFIG_SERIAL_8250_CONSOLE=y\nCONFIG_VIRTIO_CONSOLE=y\n";

fn elf() -> Vec<u8> {
    let mut elf = b"\x7fELF".to_vec();
    elf.extend((0..20_000_u32).flat_map(|number| (number / 7).to_le_bytes()));
    elf
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

fn lz4(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x02, 0x21, 0x4c, 0x18];
    for block in bytes.chunks(8 << 20) {
        let block = lz4_flex::block::compress(block);
        out.extend(u32::try_from(block.len()).unwrap().to_le_bytes());
        out.extend(block);
    }
    out
}

/// As the kernel's build makes it: header, set-up code, payload with the unpacked size after it.
fn bzimage(payload: &[u8], unpacked: usize) -> Vec<u8> {
    let mut image = vec![0; 5 * 512];
    image[0x1f1] = 4;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x20e..0x210].copy_from_slice(&0x300_u16.to_le_bytes());
    image[0x500..0x500 + 12].copy_from_slice(b"6.1.0-t (x)\0");
    image[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
    image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len() + 4).unwrap().to_le_bytes());
    image.extend([0x90; 16]);
    image.extend(payload);
    image.extend(u32::try_from(unpacked).unwrap().to_le_bytes());
    image.extend([0; 64]);
    image
}

fn package(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut data = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        data.append_data(&mut header, path, *bytes).unwrap();
    }
    let data = xz(&data.into_inner().unwrap());
    let mut archive = ar::Builder::new(Vec::new());
    let members: [(&str, &[u8]); 3] =
        [("debian-binary", b"2.0\n"), ("control.tar.xz", b""), ("data.tar.xz", &data)];
    for (name, bytes) in members {
        let header = ar::Header::new(name.as_bytes().to_vec(), bytes.len() as u64);
        archive.append(&header, bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

fn whole() -> Vec<u8> {
    let image = bzimage(&gzip(&elf()), elf().len());
    package(&[("./boot/vmlinuz-6.1.0-t", &image), ("./boot/config-6.1.0-t", CONFIG.as_bytes())])
}

fn store() -> (tempfile::TempDir, Kernels) {
    let directory = tempfile::tempdir().unwrap();
    let kernels = Kernels::open(directory.path().join("kernels")).unwrap();
    (directory, kernels)
}

#[test]
fn a_kernel_is_unpacked_however_it_is_compressed() {
    for payload in [gzip(&elf()), xz(&elf()), zstd(&elf()), lz4(&elf()), elf()] {
        let made = Ingredients::from_bytes("k", &bzimage(&payload, elf().len()), None).unwrap();
        assert!(made.image.elf.starts_with(&elf()));
        assert_eq!(made.release, "6.1.0-t");
    }
    let made = Ingredients::from_bytes("k", &zstd(&elf()), None).unwrap();
    assert!(made.image.bzimage.is_none());
    assert_eq!(made.image.elf, elf());
}

#[test]
fn what_is_stored_is_found_again_and_checked() {
    let (directory, kernels) = store();
    assert!(matches!(kernels.newest(), Err(KernelError::None)));
    let file = directory.path().join("linux.deb");
    fs::write(&file, whole()).unwrap();
    let added = kernels.add(&file, None).unwrap();
    assert_eq!(kernels.add(&file, None).unwrap().id(), added.id());
    let kernel = kernels.newest().unwrap();
    assert_eq!((kernel.release(), kernel.source(), kernel.was_checked()), ("6.1.0-t", "linux.deb", true));
    kernel.verify().unwrap();
    fs::write(kernel.vmlinux(), "other").unwrap();
    assert!(matches!(kernel.verify(), Err(KernelError::Damaged { .. })));
    kernels.remove(&added.id()[..6]).unwrap();
    assert!(matches!(kernels.remove(added.id()), Err(KernelError::Unknown(_))));
}

#[test]
fn what_is_no_kernel_is_refused_and_leaves_nothing() {
    let (directory, kernels) = store();
    let file = directory.path().join("file");
    for bytes in [b"".to_vec(), b"hello".to_vec(), package(&[("./usr/share/doc/x", b"x")]), gzip(b"hello")] {
        fs::write(&file, bytes).unwrap();
        kernels.add(&file, None).unwrap_err();
    }
    let lacking = package(&[
        ("./boot/vmlinuz-1", &bzimage(&gzip(&elf()), elf().len())),
        ("./boot/config-1", b"CONFIG_ACPI=y\n"),
    ]);
    fs::write(&file, lacking).unwrap();
    assert!(matches!(kernels.add(&file, None), Err(KernelError::Lacks(_))));
    assert_eq!(fs::read_dir(directory.path().join("kernels")).unwrap().count(), 0);
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_an_error_or_still_whole() {
    let whole = whole();
    let mut refused = 0;
    for length in (0..whole.len()).step_by(499) {
        match Ingredients::from_bytes("k", &whole[..length], None) {
            // Nothing but the archive's own end was cut off.
            Ok(made) => assert!(made.image.elf == elf()),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > whole.len() / 499 / 2);
}

proptest::proptest! {
    #[test]
    fn a_file_with_flipped_bits_never_panics(at in 0..10_000_usize, bit in 0..8_u32) {
        let mut bytes = bzimage(&lz4(&elf()[..20_000]), 20_000);
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let _ = Ingredients::from_bytes("k", &bytes, None);
    }
}

#[test]
fn a_bomb_is_stopped() {
    let bomb = gzip(&vec![0; 300 << 20]);
    assert!(matches!(
        Ingredients::from_bytes("k", &bzimage(&bomb, 300 << 20), None),
        Err(KernelError::TooLarge { .. })
    ));
}
