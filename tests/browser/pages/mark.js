// The demo's machine-readable clock: 64 blocks of 16x16 pixels in one row at the top left, white = 1:
// 48 bits of milliseconds since 1970, then 16 bits of checksum (the sum of the three 16-bit words).

/** Reads the mark from what `video` shows; null when it is not whole. */
export function readMark(video, context) {
  context.drawImage(video, 0, 0, 1024, 16, 0, 0, 1024, 16);
  const { data } = context.getImageData(0, 0, 1024, 16);
  const words = [0, 0, 0, 0];
  for (let block = 0; block < 64; block += 1) {
    let sum = 0;
    for (let y = 6; y < 10; y += 1) for (let x = 6; x < 10; x += 1) sum += data[(y * 1024 + block * 16 + x) * 4 + 1];
    if (sum / 16 > 127) words[block >> 4] |= 0x8000 >> (block & 15);
  }
  if (((words[0] + words[1] + words[2]) & 0xffff) !== words[3]) return null;
  return words[0] * 2 ** 32 + words[1] * 2 ** 16 + words[2];
}
