# boot.cmd: which slot is booted. The same script runs on every board: rpi_arm64 (mmc) and QEMU's virt (virtio).
# Partitions: 1 this one (FAT), 2 boot state, 3 data, 5 and 6 kernel of A and B, 7 and 8 root of A and B.
# State: two copies, a MiB apart, each as libubootenv writes it: CRC-32 (little-endian), a counter, the variables.
# Only the three variables below are ever read from it; numbers are hexadecimal here, so attempts stay below 10.
echo "mmpi: ${devtype} ${devnum}:${distro_bootpart} board ${board}"
if test "${board}" = "rpi"; then
  setenv fa ${fdt_addr}; setenv ra 0x06000000; setenv za 0x0a000000; setenv con "console=tty0 console=ttyS1,115200"
else
  setenv fa ${fdt_addr}; setenv ra 0x44000000; setenv za 0x48000000; setenv con "console=ttyAMA0"
fi
setenv kept "BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT"
# c1 and c2: the copies as they lie on the disk. w: a copy being looked at or made; w1 is w as an environment of its own,
# one byte shorter: the CRC covers the same bytes when it is moved up by one.
setexpr c1 ${scriptaddr} + 0x40000
setexpr c2 ${c1} + 0x2000
setexpr w ${c1} + 0x4000
setexpr w1 ${w} + 1
setexpr w4 ${w} + 4
part start ${devtype} ${devnum} 2 s1
setexpr s2 ${s1} + 0x800
${devtype} dev ${devnum}
mw.b ${c1} 0 0x4000
${devtype} read ${c1} ${s1} 8
${devtype} read ${c2} ${s2} 8
setenv look 'setenv ok 0; cp.b ${c} ${w} 0x1000; cp.b ${c} ${w1} 4; env import -c ${w1} 0xfff none_of_it && setenv ok 1; setexpr c4 ${c} + 4; setexpr.b flag *${c4}'
setenv c ${c1}; run look; setenv ok1 ${ok}; setenv flag1 ${flag}
setenv c ${c2}; run look; setenv ok2 ${ok}; setenv flag2 ${flag}
# The newer copy: its counter is ahead of the other's, which wraps at 0x100.
setenv use 0
test ${ok1} = 1 && setenv use 1
if test ${ok2} = 1; then
  if test ${ok1} = 0; then
    setenv use 2
  else
    setexpr d ${flag2} - ${flag1}
    setexpr d ${d} % 0x100
    itest ${d} > 0 && itest ${d} < 0x80 && setenv use 2
  fi
fi
setenv BOOT_ORDER; setenv BOOT_A_LEFT; setenv BOOT_B_LEFT
setenv count 0; setenv next ${s1}
if test ${use} = 1; then setenv c ${c1}; setenv count ${flag1}; setenv next ${s2}; fi
if test ${use} = 2; then setenv c ${c2}; setenv count ${flag2}; setenv next ${s1}; fi
if test ${use} != 0; then
  cp.b ${c} ${w} 0x1000; cp.b ${c} ${w1} 4; env import -c ${w1} 0xfff ${kept}
fi
test -n "${BOOT_ORDER}" || setenv BOOT_ORDER "A B"
test -n "${BOOT_A_LEFT}" || setenv BOOT_A_LEFT 3
test -n "${BOOT_B_LEFT}" || setenv BOOT_B_LEFT 3
echo "mmpi: state ${ok1}/${flag1} ${ok2}/${flag2} copy ${use}: order ${BOOT_ORDER}, A ${BOOT_A_LEFT}, B ${BOOT_B_LEFT}"
setenv save 'setexpr count ${count} + 1; setexpr count ${count} % 0x100; env export -c -s 0xfff ${w1} ${kept}; cp.b ${w1} ${w} 4; mw.b ${w4} ${count}; ${devtype} write ${w} ${next} 8; if test ${next} = ${s1}; then setenv next ${s2}; else setenv next ${s1}; fi'
setenv boot 'echo "mmpi: slot ${slot}"; part uuid ${devtype} ${devnum}:${rp} ru; setenv bootargs ${con} root=PARTUUID=${ru} ro panic=5 rauc.slot=${slot} systemd.getty_auto=no quiet ${more}; load ${devtype} ${devnum}:${bp} ${za} kernel.uimg && load ${devtype} ${devnum}:${bp} ${ra} initrd.uimg && iminfo ${za} ${ra} && bootm ${za} ${ra} ${fa}; echo "mmpi: slot ${slot} did not start"'
# A loop's variable must not be an environment variable, which would win over it.
setenv known 0
for i in ${BOOT_ORDER}; do
  if test "${i}" = A && setenv known 1 && itest ${BOOT_A_LEFT} > 0; then
    setexpr BOOT_A_LEFT ${BOOT_A_LEFT} - 1; run save; setenv slot A; setenv bp 5; setenv rp 7; run boot
  fi
  if test "${i}" = B && setenv known 1 && itest ${BOOT_B_LEFT} > 0; then
    setexpr BOOT_B_LEFT ${BOOT_B_LEFT} - 1; run save; setenv slot B; setenv bp 6; setenv rp 8; run boot
  fi
done
echo "mmpi: no slot starts; three attempts each, from the beginning"
test ${known} = 0 && setenv BOOT_ORDER "A B"
setenv BOOT_A_LEFT 3; setenv BOOT_B_LEFT 3; run save; sleep 1; reset
