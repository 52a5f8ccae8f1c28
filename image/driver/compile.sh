#!/bin/sh
# compile.sh SOURCE KERNEL TARGET: nvidia.ko and nvidia-uvm.ko in TARGET, for the kernel whose headers
# lie in /usr/src. Runs in the tree of mkosi.conf, without network.
set -eu

# Paths reach the objects: this one is the same everywhere.
cp -r "$1" /tmp/driver
cd /tmp/driver
export KBUILD_BUILD_TIMESTAMP=@1735689600 KBUILD_BUILD_USER=aicert KBUILD_BUILD_HOST=aicert
# Debian's headers are in two parts: of the version, and of the kernel's configuration.
make -j"$(nproc)" CC=gcc-14 HOSTCC=gcc-14 \
    SYSSRC="/usr/src/linux-headers-${2%-cloud-amd64}-common" SYSOUT="/usr/src/linux-headers-$2" \
    NV_EXCLUDE_KERNEL_MODULES="nvidia-modeset nvidia-drm nvidia-peermem nvidia-vgpu-vfio" modules
strip --strip-debug nvidia.ko nvidia-uvm.ko
cp nvidia.ko nvidia-uvm.ko "$3"
