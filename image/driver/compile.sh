#!/bin/sh
# compile.sh SOURCE KERNEL TARGET: compile nvidia.ko and nvidia-uvm.ko into TARGET, for the kernel
# whose headers are in /usr/src. This runs in the tree of mkosi.conf, without network.
set -eu

# The path of the sources gets into the objects, so use one that is the same everywhere.
cp -r "$1" /tmp/driver
cd /tmp/driver
export KBUILD_BUILD_TIMESTAMP=@1735689600 KBUILD_BUILD_USER=aicert KBUILD_BUILD_HOST=aicert
# Debian's headers come in two parts: one for the version, one for the kernel's configuration.
make -j"$(nproc)" CC=gcc-14 HOSTCC=gcc-14 \
    SYSSRC="/usr/src/linux-headers-${2%-cloud-amd64}-common" SYSOUT="/usr/src/linux-headers-$2" \
    NV_EXCLUDE_KERNEL_MODULES="nvidia-modeset nvidia-drm nvidia-peermem nvidia-vgpu-vfio" modules
strip --strip-debug nvidia.ko nvidia-uvm.ko
cp nvidia.ko nvidia-uvm.ko "$3"
