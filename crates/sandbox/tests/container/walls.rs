//! What a hostile program tries, each from inside a real sandbox.

use hearth_sandbox::Exit;
use libtest_mimic::Trial;

use hearth_sandbox::Sandbox;
use tokio::io::AsyncReadExt;

use crate::world::{MAX_OUTPUT, World, process, shell, trial};

/// Runs each script and expects it to fail with a text that says why.
async fn refused(world: &World, scripts: &[(&str, &str)]) {
    let sandbox = world.sandbox().await;
    for (script, why) in scripts {
        let (exit, output) = shell(&*sandbox, script).await;
        assert_ne!(exit, Exit::Status(0), "{script} worked: {output}");
        assert!(output.contains(why), "{script}: {output}");
    }
}

/// Asks the kernel itself: the program of that name looks for other reasons first.
const UNMOUNT: &str = "/usr/bin/python3 -c \"import ctypes, errno, sys; libc = ctypes.CDLL(None, use_errno=True); \
                       sys.exit(libc.umount2(b'/proc', 0) and errno.errorcode[ctypes.get_errno()])\"";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_function_has_no_privilege_of_any_kind", |world| async {
            let sandbox = world.sandbox().await;
            let (_, status) = shell(&*sandbox, "cat /proc/self/status; id -u; id -g; id -G").await;
            for line in [
                "CapInh:\t0000000000000000",
                "CapPrm:\t0000000000000000",
                "CapEff:\t0000000000000000",
                "CapBnd:\t0000000000000000",
                "CapAmb:\t0000000000000000",
                "NoNewPrivs:\t1",
                "Seccomp:\t2",
            ] {
                assert!(status.contains(line), "{line}: {status}");
            }
            assert!(status.ends_with("993\n990\n990\n"), "{status}");
            world
        }),
        trial("the_hosts_files_are_not_there_and_the_root_cannot_be_written", |world| async {
            let data = world.directory.path().display().to_string();
            refused(
                &world,
                &[
                    ("cat /etc/shadow", "No such file"),
                    ("ls /home", "No such file"),
                    (&format!("ls {data}"), "No such file"),
                    ("touch /x", "Read-only file system"),
                    ("touch /usr/x", "Read-only file system"),
                    ("touch /etc/x", "Read-only file system"),
                    ("touch /var/task/x", "Read-only file system"),
                    ("touch /dev/x", "Read-only file system"),
                    ("ls /etc/ssl/private", "No such file"),
                    ("ls /root/.ssh", "No such file"),
                    ("ls /proc/1/root", "No such file"),
                ],
            )
            .await;
            world
        }),
        trial("no_mount_namespace_or_device_can_be_made", |world| async {
            refused(
                &world,
                &[
                    ("mount -t tmpfs x /tmp", "must be superuser"),
                    ("mount -o remount,rw /", "must be superuser"),
                    (UNMOUNT, "EPERM"),
                    ("unshare -U true", "Operation not permitted"),
                    ("unshare -m true", "Operation not permitted"),
                    ("mknod /tmp/sda b 8 0", "Operation not permitted"),
                    ("echo 1 > /proc/sys/kernel/hostname", "Read-only file system"),
                    ("echo c > /proc/sysrq-trigger", "cannot create"),
                    ("head -c 4 /proc/kcore 2>&1 | grep -q ELF || ! echo no memory", "no memory"),
                    ("ls /sys/fs/cgroup", "No such file"),
                ],
            )
            .await;
            world
        }),
        trial("only_its_own_processes_and_network_are_seen", |world| async {
            let neighbour = world.sandbox().await;
            let (_, _) = shell(&*neighbour, "true").await;
            let sandbox = world.sandbox().await;
            let (_, listed) = shell(&*sandbox, "echo /proc/[0-9]*; cat /proc/net/dev").await;
            let processes = listed.lines().next().unwrap().split(' ').count();
            assert!(processes <= 2, "{listed}");
            assert!(listed.contains("lo:") && !listed.contains("eth0"), "{listed}");
            let host = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = host.local_addr().unwrap().port();
            let connect = format!(
                "import socket\ntry: socket.create_connection(('127.0.0.1', {port}), 2)\nexcept OSError as e: print(e)"
            );
            assert!(python(&*sandbox, &connect).await.contains("Connection refused"));
            world
        }),
        trial("nobody_else_can_be_become_and_no_terminal_spoken_for", |world| async {
            let sandbox = world.sandbox().await;
            let program = "
import errno, fcntl, os
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
def refused(what, call, *arguments):
    try: call(*arguments)
    except OSError as error:
        if error.errno == errno.EPERM: return
        print(what, error)
    else: print(what, 'worked')
refused('sti', fcntl.ioctl, 0, TIOCSTI, b'x')
refused('linux', fcntl.ioctl, 0, TIOCLINUX, b'\\x02')
for user in [0, 1, 994]:
    refused(f'setuid {user}', os.setuid, user)
    refused(f'setgid {user}', os.setgid, user)
refused('setgroups', os.setgroups, [0])
print('done')";
            assert_eq!(python(&*sandbox, program).await, "done\n");
            world
        }),
        trial("dangerous_system_calls_are_refused", |world| async {
            let sandbox = world.sandbox().await;
            // Numbers of x86-64: ptrace, keyctl, add_key, bpf, perf_event_open, userfaultfd, io_uring_setup, setns,
            // init_module, kexec_load, process_vm_readv, open_by_handle_at, mount, pivot_root, chroot, swapon, reboot; then
            // clone3 and some newer than all that are allowed.
            let program = "
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
for number in [101, 250, 248, 321, 298, 323, 425, 308, 175, 246, 310, 304, 165, 155, 161, 167, 169]:
    ctypes.set_errno(0)
    result = libc.syscall(number, 0, 0, 0, 0, 0, 0)
    if result != -1 or ctypes.get_errno() != errno.EPERM: print('allowed', number, result, ctypes.get_errno())
ctypes.set_errno(0)
for number in [435, 453, 462, 500]:
    ctypes.set_errno(0)
    if libc.syscall(number, 0, 0) != -1 or ctypes.get_errno() != errno.ENOSYS: print('there', number, ctypes.get_errno())
print('done')";
            let wanted = if cfg!(target_arch = "x86_64") { "done\n" } else { return world };
            assert_eq!(python(&*sandbox, program).await, wanted);
            world
        }),
        trial("its_first_process_cannot_be_ended_or_traced", |world| async {
            refused(&world, &[("kill -9 1", "not permitted")]).await;
            let sandbox = world.sandbox().await;
            // Everything that it may signal, which is nothing but its own.
            let (exit, _) = shell(&*sandbox, "sleep 1000 & kill -9 -1; wait $!; exit $?").await;
            assert_eq!(exit, Exit::Status(128 + 9));
            assert_eq!(shell(&*sandbox, "echo still here").await.1, "still here\n");
            world
        }),
        trial("it_goes_before_the_worker_when_the_machine_has_no_memory", |world| async {
            // How far back it may go depends on the worker's capabilities; never to below where the worker is.
            let worker = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
            let below = worker.trim().parse::<i32>().unwrap() - 1;
            let sandbox = world.sandbox().await;
            let (_, before) = shell(&*sandbox, "cat /proc/self/oom_score_adj").await;
            assert_eq!(before, "900\n");
            let lower = format!(
                "/usr/bin/python3 -c \"import os; os.write(os.open('/proc/self/oom_score_adj', os.O_WRONLY), b'{below}')\""
            );
            refused(&world, &[(&lower, "Permission denied")]).await;
            world
        }),
        trial("limits_cannot_be_raised_and_no_core_is_written", |world| async {
            let sandbox = world.sandbox().await;
            let (_, output) = shell(&*sandbox, "ulimit -n; ulimit -c; ulimit -n 100000; echo after").await;
            assert!(output.starts_with("256\n0\n"), "{output}");
            assert!(output.contains("ermitted") && !output.ends_with("100000\n"), "{output}");
            world
        }),
        trial("files_are_found_by_programs_that_ask_for_them", |world| async {
            let sandbox = world.sandbox().await;
            // `access` and `creat` are system calls of their own on x86-64; Python and Node ask with the first.
            let program = "
import ctypes, os, shutil
print(os.access('/usr/bin/env', os.X_OK), os.access('/tmp', os.W_OK), os.access('/usr', os.W_OK))
print(shutil.which('env'), ctypes.CDLL(None).creat(b'/tmp/made', 0o600) >= 0)
os.mkfifo('/tmp/pipe')
print(os.path.exists('/tmp/pipe'))";
            assert_eq!(python(&*sandbox, program).await, "True True False\n/usr/bin/env True\nTrue\n");
            world
        }),
    ]
}

/// Runs a Python program to its end, and gives what it wrote.
async fn python(sandbox: &dyn Sandbox, program: &str) -> String {
    let process = sandbox.spawn(process(&["/usr/bin/python3", "-c", program])).await.unwrap();
    let mut output = String::new();
    process.output.take(MAX_OUTPUT).read_to_string(&mut output).await.unwrap();
    output
}
