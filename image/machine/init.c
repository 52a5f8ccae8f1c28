/* PID 1 of the measured machine (docs/spec/image.md).
 *
 * It opens through dm-verity the volumes that the kernel command line names, and the input volume
 * with the root hash that the volume itself has; then it starts the runner, and powers off when the
 * runner ends. Every failure ends in power off; a block that differs from its hash tree, or cannot
 * be read, panics the kernel, which resets. Nothing is read from the host except block devices, and
 * from those only what dm-verity lets through, except for the last block of the input volume, whose
 * form is checked here.
 *
 * The content of inputs is not judged here. The runner hashes it through the mounts made here.
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096
#define HEX 64
#define RUNNER "/usr/bin/python3.11"
/* The input volume's last block: this line, the root hash, the number of data blocks, zeroes. */
#define TRAILER "aicert inputs 1\n"
/* How long to wait for disks: a cloud attaches them to a machine that already runs. */
#define WAIT_S 600
#define STEP_NS 50000000L
#define SAFE (MS_RDONLY | MS_NODEV | MS_NOSUID | MS_NOEXEC)

/* Kernel modules, in the order in which they need each other; the files are in the initrd. */
static const char *const MODULES[] = {
    "virtio_blk", "sha256-ssse3", "dm-mod", "dm-bufio",
    "reed_solomon", "dm-verity", "libcrc32c", "erofs",
    "scsi_common", "scsi_mod", "sd_mod", "scsi_transport_fc", "virtio_scsi",
    "hv_vmbus", "hv_storvsc",
};
/* Hyper-V's bus does not load on other machines, and only the modules after it need it. */
static const char HYPERV[] = "hv_vmbus";
/* Modules that only the initrd of the image with GPUs has. The first two are Hyper-V's. */
static const char *const GPU_MODULES[] = {"pci-hyperv-intf", "pci-hyperv", "nvidia", "nvidia-uvm"};
#define GPU_FILE "/modules/nvidia.ko"
#define NVIDIA 0x10de /* its PCI vendor ID */
#define GPU_WAIT_S 30
/* Serving machines have an init of their own, compiled from this file. Only it has a network. */
#ifdef AICERT_SERVE
#define PROGRAM "enclave_runner.serving.boot"
/* Huge pages where a file fills them: small ones take half of the time of decrypting weights. */
#define SCRATCH "mode=0755,size=75%,huge=within_size"
/* The last one is Hyper-V's. */
static const char *const NETWORK_MODULES[] = {"failover", "net_failover", "virtio_net", "hv_netvsc"};
#else
#define PROGRAM "enclave_runner.boot.init"
#define SCRATCH "mode=0755,size=75%"
#endif

static void stop(void)
{
    sync();
    reboot(RB_POWER_OFF);
    reboot(RB_AUTOBOOT);
    _exit(1); /* The kernel panics when PID 1 ends, and resets. */
}

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *form, ...)
{
    const int cause = errno;
    va_list given;

    fputs("aicert-init: ", stderr);
    va_start(given, form);
    vfprintf(stderr, form, given);
    va_end(given);
    if (cause)
        fprintf(stderr, ": %s", strerror(cause));
    fputs("\n", stderr);
    stop();
    __builtin_unreachable();
}

static void attach(const char *what, const char *where, const char *type, unsigned long flags,
                   const char *options)
{
    if (mount(what, where, type, flags, options) != 0)
        die("cannot mount %s at %s", what, where);
}

/* Reads a small file as a string; returns its length. */
static size_t slurp(const char *path, char *to, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length;

    if (fd < 0 || (length = read(fd, to, size - 1)) < 0)
        die("cannot read %s", path);
    close(fd);
    to[length] = '\0';
    return (size_t)length;
}

static void spill(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        die("cannot write %s", path);
    close(fd);
}

static int load_module(const char *name)
{
    char path[128];
    int fd;

    snprintf(path, sizeof(path), "/modules/%s.ko", name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) != 0) {
        if (errno == ENODEV && strcmp(name, HYPERV) == 0)
            return 0;
        die("cannot load %s", name);
    }
    close(fd);
    return 1;
}

static int has_gpu(void)
{
    char path[320], found[16];
    struct dirent *entry;
    DIR *devices = opendir("/sys/bus/pci/devices");
    int count = 0;

    while (devices && (entry = readdir(devices))) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vendor", entry->d_name);
        slurp(path, found, sizeof(found));
        count += strtol(found, NULL, 16) == NVIDIA;
    }
    if (devices)
        closedir(devices);
    return count > 0;
}

/* Loads NVIDIA's driver, which nobody has signed: the kernel accepts it, and is locked down only
 * afterwards. Until then no other program than this one has run. Hyper-V adds GPUs some time after
 * its bus. */
static void load_gpu(int hyperv)
{
    const struct timespec step = {.tv_nsec = STEP_NS};
    long waited = 0;

    if (access(GPU_FILE, F_OK) != 0)
        return;
    for (size_t i = 0; hyperv && i < 2; i++)
        load_module(GPU_MODULES[i]);
    while (!has_gpu() && waited++ < GPU_WAIT_S * (1000000000L / STEP_NS))
        nanosleep(&step, NULL);
    if (has_gpu())
        for (size_t i = 2; i < sizeof(GPU_MODULES) / sizeof(*GPU_MODULES); i++)
            load_module(GPU_MODULES[i]);
    attach("securityfs", "/sys/kernel/security", "securityfs", SAFE & ~MS_RDONLY, NULL);
    spill("/sys/kernel/security/lockdown", "confidentiality");
}

#ifdef AICERT_SERVE
static void load_network(int hyperv)
{
    const size_t count = sizeof(NETWORK_MODULES) / sizeof(*NETWORK_MODULES);

    for (size_t i = 0; i < count - !hyperv; i++)
        load_module(NETWORK_MODULES[i]);
}
#endif

static void load_modules(void)
{
    int hyperv = 1;

    for (size_t i = 0; i < sizeof(MODULES) / sizeof(*MODULES) && hyperv; i++)
        hyperv = load_module(MODULES[i]);
    load_gpu(hyperv);
#ifdef AICERT_SERVE
    load_network(hyperv);
#endif
    /* From here on nobody can load another module, such as a network driver. */
    spill("/proc/sys/kernel/modules_disabled", "1");
}

/* Says whether a disk has that LUN. A SCSI device is named host:channel:target:LUN. */
static int has_lun(const char *disk, int wanted)
{
    char link[288], target[256];
    ssize_t length;
    int lun;

    snprintf(link, sizeof(link), "/sys/block/%s/device", disk);
    length = readlink(link, target, sizeof(target) - 1);
    if (length < 0)
        return 0;
    target[length] = '\0';
    return strrchr(target, '/') &&
           sscanf(strrchr(target, '/') + 1, "%*d:%*d:%*d:%d", &lun) == 1 && lun == wanted;
}

static int has_serial(const char *disk, const char *wanted)
{
    char name[288], found[64];

    snprintf(name, sizeof(name), "/sys/block/%s/serial", disk);
    slurp(name, found, sizeof(found));
    found[strcspn(found, "\n")] = '\0';
    return strcmp(found, wanted) == 0;
}

/* Sets `path` to /dev/NAME of the virtio disk with that serial number, or of the SCSI disk with
 * that LUN, in whatever order the host attached disks; empty if there is none. Two such disks are
 * refused. */
static void look_for_disk(const char *serial, int lun, char *path, size_t size)
{
    struct dirent *entry;
    DIR *disks = opendir("/sys/block");

    path[0] = '\0';
    while (disks && (entry = readdir(disks))) {
        const char *name = entry->d_name;

        if (!(strncmp(name, "vd", 2) == 0 && has_serial(name, serial)) &&
            !(strncmp(name, "sd", 2) == 0 && has_lun(name, lun)))
            continue;
        errno = 0;
        if (path[0])
            die("two disks have the serial number %s, or its LUN", serial);
        snprintf(path, size, "/dev/%.24s", name);
    }
    if (disks)
        closedir(disks);
}

/* Waits until that disk is there, and its partition if one is named. */
static void find_disk(const char *serial, int lun, const char *partition, char *path, size_t size)
{
    const struct timespec step = {.tv_nsec = STEP_NS};
    char node[48];

    for (long waited = 0; waited < WAIT_S * (1000000000L / STEP_NS); waited++) {
        look_for_disk(serial, lun, path, size);
        snprintf(node, sizeof(node), "%.32s%s", path, partition);
        if (path[0] && access(node, R_OK) == 0)
            return;
        nanosleep(&step, NULL);
    }
    errno = 0;
    die("no disk has the serial number %s or the LUN %d", serial, lun);
}

static int is_hash(const char *text)
{
    return strspn(text, "0123456789abcdef") >= HEX;
}

union dm_call {
    struct dm_ioctl io;
    char space[2048];
};

/* Makes one request to device mapper, with a fresh header, since each answer overwrites it. */
static void dm(int control, unsigned long request, union dm_call *call, const char *name)
{
    memset(&call->io, 0, sizeof(call->io));
    call->io.version[0] = DM_VERSION_MAJOR;
    call->io.data_size = sizeof(*call);
    call->io.data_start = sizeof(call->io);
    call->io.target_count = request == DM_TABLE_LOAD ? 1 : 0;
    call->io.flags = DM_READONLY_FLAG;
    snprintf(call->io.name, sizeof(call->io.name), "%s", name);
    if (ioctl(control, request, call) != 0)
        die("device mapper refused %s", name);
}

/* Makes /dev/dm-NUMBER of `blocks` blocks of `device`, which the hash tree of this root follows. */
static void open_verity(const char *name, unsigned number, const char *device, uint64_t blocks,
                        const char *root)
{
    union dm_call call = {0};
    struct dm_target_spec *target = (void *)(call.space + sizeof(call.io));
    char *table = (char *)(target + 1);
    size_t room = sizeof(call) - sizeof(call.io) - sizeof(*target);
    int control = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);

    if (control < 0)
        die("no device mapper");
    dm(control, DM_DEV_CREATE, &call, name);
    errno = 0;
    if (minor(call.io.dev) != number)
        die("device mapper made %s as dm-%u", name, minor(call.io.dev));
    memset(call.space + sizeof(call.io), 0, sizeof(call) - sizeof(call.io));
    target->length = blocks * (BLOCK / 512);
    snprintf(target->target_type, sizeof(target->target_type), "verity");
    snprintf(table, room,
             "1 %s %s %d %d %llu %llu sha256 %.64s - 2 panic_on_corruption panic_on_error", device,
             device, BLOCK, BLOCK, (unsigned long long)blocks, (unsigned long long)blocks, root);
    dm(control, DM_TABLE_LOAD, &call, name);
    dm(control, DM_DEV_SUSPEND, &call, name); /* Without DM_SUSPEND_FLAG this resumes the device. */
    close(control);
}

/* Reads `HASH,BLOCKS` of one volume from the kernel command line, which must have its key exactly
 * once; returns the number of blocks. */
static uint64_t from_command_line(const char *line, const char *key, char *root)
{
    const char *at = strstr(line, key);
    char *end;
    uint64_t blocks;

    errno = 0;
    if (!at || strstr(at + 1, key))
        die("%s is not on the command line exactly once", key);
    at += strlen(key);
    if (!is_hash(at) || at[HEX] != ',')
        die("%s has no root hash", key);
    memcpy(root, at, HEX);
    root[HEX] = '\0';
    blocks = strtoull(at + HEX + 1, &end, 10);
    if (blocks == 0 || (*end != ' ' && *end != '\n' && *end != '\0'))
        die("%s has no number of blocks", key);
    return blocks;
}

/* Reads the root hash and the number of blocks from the last block of the input volume. From here
 * on the volume's bytes are fixed. */
static uint64_t from_trailer(const char *device, char *root)
{
    char block[BLOCK + 1];
    uint64_t size, blocks;
    char *end;
    int fd = open(device, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || ioctl(fd, BLKGETSIZE64, &size) != 0 || size < 2 * BLOCK ||
        pread(fd, block, BLOCK, (off_t)(size - BLOCK)) != BLOCK)
        die("cannot read the input volume");
    close(fd);
    block[BLOCK] = '\0';
    errno = 0;
    if (strncmp(block, TRAILER, strlen(TRAILER)) != 0 || !is_hash(block + strlen(TRAILER)))
        die("the input volume does not end in its root hash");
    memcpy(root, block + strlen(TRAILER), HEX);
    root[HEX] = '\0';
    blocks = strtoull(block + strlen(TRAILER) + HEX + 1, &end, 10);
    if (block[strlen(TRAILER) + HEX] != '\n' || *end != '\n' || blocks == 0 ||
        blocks >= size / BLOCK)
        die("the input volume does not say how large it is");
    return blocks;
}

/* Refuses features for which the kernel's erofs does more than read blocks in place: further
 * devices, fragments, and all compression but the oldest kind, which check_file finds
 * (struct erofs_super_block in the kernel's fs/erofs/erofs_fs.h). */
static void check_erofs(const char *device)
{
    unsigned char super[128];
    uint32_t magic, features;
    uint16_t devices;
    int fd = open(device, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || pread(fd, super, sizeof(super), 1024) != sizeof(super))
        die("cannot read %s", device);
    close(fd);
    memcpy(&magic, super, 4);
    memcpy(&features, super + 80, 4);
    memcpy(&devices, super + 86, 2);
    errno = 0;
    /* Bit 0 (zero padding) says only how compressed data would be laid out. */
    if (magic != 0xe0f5e1e2u || (features & ~1u) != 0 || devices != 0)
        die("the input volume is not a plain erofs (features %#x, devices %u)", features, devices);
}

/* Refuses a folder that does not list what it holds. A folder's size may cut its last name short:
 * then the name is listed by its first letters and opened by all of them, so that the trainer could
 * read a file that the runner never saw. A name that is cut like this is always listed twice,
 * cannot be opened, or is `.` or `..` with another inode; check_file and this function refuse all
 * of these. */
static void check_folder(const char *path, const struct stat *found, int level)
{
    char before[NAME_MAX + 1] = "";
    struct dirent *entry;
    struct stat above;
    DIR *folder = opendir(path);

    /* On the volume, the uppermost folder is its own parent. */
    if (!folder || fstatat(dirfd(folder), level ? ".." : ".", &above, 0) != 0)
        die("cannot read a folder of the input volume");
    while (errno = 0, (entry = readdir(folder))) {
        const char *name = entry->d_name;
        int own = strcmp(name, ".") == 0, upper = strcmp(name, "..") == 0;

        if (strcmp(before, name) >= 0 || (own && entry->d_ino != found->st_ino) ||
            (upper && entry->d_ino != above.st_ino))
            die("the input volume has a folder that does not list what it holds");
        snprintf(before, sizeof(before), "%s", name);
    }
    if (errno)
        die("cannot read a folder of the input volume");
    closedir(folder);
}

/* Refuses compressed files, and entries that are neither files nor folders. Compression is a
 * property of each file, which the superblock need not mention. A folder is checked here before it
 * is read, and the runner reads files later. */
static int check_file(const char *path, const struct stat *found, int kind, struct FTW *place)
{
    struct statx status;

    (void)kind;
    if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &status) != 0)
        die("cannot stat a file of the input volume");
    errno = 0;
    if ((status.stx_attributes & STATX_ATTR_COMPRESSED) ||
        !(status.stx_attributes_mask & STATX_ATTR_COMPRESSED))
        die("the input volume is not a plain erofs: it has a compressed file");
    if (!S_ISREG(status.stx_mode) && !S_ISDIR(status.stx_mode))
        die("the input volume holds something other than files and folders");
    if (S_ISDIR(status.stx_mode))
        check_folder(path, found, place->level);
    return 0;
}

static void open_volumes(void)
{
    char line[4096], image[32], part[40], root[HEX + 1];
    uint64_t blocks;

    if (slurp("/proc/cmdline", line, sizeof(line)) >= sizeof(line) - 1)
        die("the command line is too long");
    find_disk("aicert-image", 0, "3", image, sizeof(image));

    snprintf(part, sizeof(part), "%s2", image);
    blocks = from_command_line(line, "aicert.root=", root);
    open_verity("root", 0, part, blocks, root);
    attach("/dev/dm-0", "/root", "erofs", MS_RDONLY | MS_NODEV | MS_NOSUID, NULL);

    snprintf(part, sizeof(part), "%s3", image);
    blocks = from_command_line(line, "aicert.training=", root);
    open_verity("training", 1, part, blocks, root);
    attach("/dev/dm-1", "/root/training", "erofs", MS_RDONLY | MS_NODEV | MS_NOSUID, NULL);

    find_disk("aicert-inputs", 10, "", image, sizeof(image));
    blocks = from_trailer(image, root);
    open_verity("inputs", 2, image, blocks, root);
    check_erofs("/dev/dm-2");
    attach("/dev/dm-2", "/root/inputs", "erofs", SAFE, NULL);
    if (nftw("/root/inputs", check_file, 16, FTW_PHYS) != 0)
        die("cannot walk the input volume");
}

static void enter_root(void)
{
    attach("proc", "/root/proc", "proc", MS_NODEV | MS_NOSUID | MS_NOEXEC, NULL);
    attach("sysfs", "/root/sys", "sysfs", MS_NODEV | MS_NOSUID | MS_NOEXEC, NULL);
    attach("dev", "/root/dev", "devtmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755");
    attach("run", "/root/run", "tmpfs", MS_NODEV | MS_NOSUID | MS_NOEXEC, "mode=0755,size=64m");
    attach("tmp", "/root/tmp", "tmpfs", MS_NODEV | MS_NOSUID | MS_NOEXEC, "mode=1777,size=64m");
    /* The only large file system. The runner watches how much of it the run uses. */
    attach("scratch", "/root/scratch", "tmpfs", MS_NODEV | MS_NOSUID | MS_NOEXEC, SCRATCH);
    if (chdir("/root") != 0)
        die("cannot enter the root");
    attach(".", "/", NULL, MS_MOVE, NULL);
    if (chroot(".") != 0 || chdir("/") != 0)
        die("cannot enter the root");
}

static pid_t start_runner(void)
{
    static char *const words[] = {RUNNER, "-I", "-m", PROGRAM, NULL};
    static char *const environment[] = {"PATH=/usr/bin:/usr/sbin", "LC_ALL=C.UTF-8", NULL};
    pid_t runner = fork();

    if (runner < 0)
        die("cannot start the runner");
    if (runner == 0) {
        setsid();
        execve(RUNNER, words, environment);
        _exit(127);
    }
    return runner;
}

int main(void)
{
    int status = 0, null;
    pid_t runner, ended;

    if (getpid() != 1)
        return 1;
    umask(022);
    attach("dev", "/dev", "devtmpfs", MS_NOSUID | MS_NOEXEC, NULL);
    /* The initrd has no /dev/console, so the kernel opened none: messages go there from now on. */
    null = open("/dev/null", O_RDWR);
    dup2(null, 0);
    null = open("/dev/console", O_WRONLY | O_NOCTTY);
    dup2(null, 1);
    dup2(null, 2);
    attach("proc", "/proc", "proc", MS_NODEV | MS_NOSUID | MS_NOEXEC, NULL);
    attach("sysfs", "/sys", "sysfs", MS_NODEV | MS_NOSUID | MS_NOEXEC, NULL);
    load_modules();
    open_volumes();
    enter_root();
    runner = start_runner();
    /* Processes whose parent has ended become children of PID 1, so wait for all of them. */
    do {
        ended = wait(&status);
    } while (ended != runner && (ended > 0 || errno == EINTR));
    if (ended != runner || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fprintf(stderr, "aicert-init: the runner ended with status %#x\n", status);
    stop();
}
