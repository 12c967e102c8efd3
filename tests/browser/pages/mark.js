// What pictures say of themselves in a row of blocks of 16x16 pixels at the top left, white = 1.

/** Reads `count` blocks of what `video` shows. */
function readBlocks(video, context, count) {
  const width = count * 16;
  context.drawImage(video, 0, 0, width, 16, 0, 0, width, 16);
  const { data } = context.getImageData(0, 0, width, 16);
  return Array.from({ length: count }, (_, block) => {
    let sum = 0;
    for (let y = 6; y < 10; y += 1) for (let x = 6; x < 10; x += 1) sum += data[(y * width + block * 16 + x) * 4 + 1];
    return sum / 16 > 127;
  });
}

/**
 * Reads the demo's machine-readable clock from what `video` shows; null when it is not whole: 48 bits of milliseconds
 * since 1970, then 16 bits of checksum (the sum of the three 16-bit words).
 */
export function readMark(video, context) {
  const words = [0, 0, 0, 0];
  readBlocks(video, context, 64).forEach((white, block) => {
    if (white) words[block >> 4] |= 0x8000 >> (block & 15);
  });
  if (((words[0] + words[1] + words[2]) & 0xffff) !== words[3]) return null;
  return words[0] * 2 ** 32 + words[1] * 2 ** 16 + words[2];
}

const NUMBER_BITS = 12;

/** Collects `[at, number]` of each frame of `video`: when (ms) it is expected on the screen, and its number of 12 bits, the lowest first. */
export function watchNumbers(video) {
  const pictures = [];
  const context = new OffscreenCanvas(NUMBER_BITS * 16, 16).getContext("2d", { willReadFrequently: true });
  const look = (_now, metadata) => {
    const bits = readBlocks(video, context, NUMBER_BITS);
    pictures.push([metadata.expectedDisplayTime, bits.reduce((number, white, bit) => number | (white << bit), 0)]);
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
  return pictures;
}
