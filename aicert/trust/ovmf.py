"""Reference values of the firmware that `qemu` machines boot: one entry for each build of OVMF.

PCR 0, 2, 3 and 7 were the same in every boot of a build, whatever the machine's memory, processors
and disks. PCR 1 was not: it covers the tables that describe them. Nothing in the machine depends on
those tables, so it is quoted and not compared.
"""

from aicert.appraisal.policy import Firmware

# Maps the SHA-256 of OVMF_CODE_4M.fd to the values that this build gives.
BUILDS = {
    "624e06de18b4fa535e90db7160d00d3d07d206422b89999bf1e27d920264e4e0": Firmware(
        name="ovmf-2025.02-8+deb13u1",
        pcrs={
            0: bytes.fromhex("0101271704ccc2360ddbb08438d591c23fb8a0a9cb0cebc60cefea7868833f8e"),
            2: bytes.fromhex("3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969"),
            3: bytes.fromhex("3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969"),
            7: bytes.fromhex("b5710bf57d25623e4019027da116821fa99f5c81e9e38b87671cc574f9281439"),
        },
    ),
}
