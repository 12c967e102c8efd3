// Where the publish page's picture and sound come from. Each source has `media`, `resume()` and `close()`.

import { GeneratedSource } from './generated.js';

/**
 * Opens `camera`, `screen` or `generated`. Settings: `{ title, width, height, frameRate, camera, microphone }`, the last
 * two being device ids, '' for the default, 'none' for no microphone. Throws an Error with a sentence for people.
 */
export async function openSource(kind, settings) {
  if (kind === 'generated') return new GeneratedSource(settings);
  if (!navigator.mediaDevices) {
    throw new Error('Browsers give camera and screen to secure pages only: use https, or localhost. The generated picture works here.');
  }
  try {
    const media = await (kind === 'screen' ? captureScreen(settings) : captureCamera(settings));
    return { media, resume: async () => {}, close: () => media.getTracks().forEach((track) => track.stop()) };
  } catch (error) {
    throw new Error(explain(error, kind));
  }
}

/** The cameras and microphones, once the browser may name them: `{ cameras, microphones }`. */
export async function listDevices() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  const of = (wanted) => devices.filter(({ kind, deviceId, label }) => kind === wanted && deviceId && label);
  return { cameras: of('videoinput'), microphones: of('audioinput') };
}

async function captureCamera({ width, height, frameRate, camera, microphone }) {
  const device = (id) => (id ? { deviceId: { exact: id } } : {});
  const media = await navigator.mediaDevices.getUserMedia({
    video: { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: frameRate }, ...device(camera) },
    audio: microphone === 'none' ? false : { channelCount: { ideal: 2 }, ...device(microphone) },
  });
  media.getVideoTracks()[0].contentHint = 'motion';
  return media;
}

async function captureScreen({ width, height, frameRate }) {
  const media = await navigator.mediaDevices.getDisplayMedia({
    video: { width: { max: width }, height: { max: height }, frameRate: { ideal: frameRate } },
    audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
  });
  media.getVideoTracks()[0].contentHint = 'detail';
  return media;
}

function explain(error, kind) {
  const thing = kind === 'screen' ? 'screen' : 'camera';
  switch (error.name) {
    case 'NotAllowedError':
      return `This page was not allowed to use the ${thing}. Allow it in the address bar, or choose something else to send.`;
    case 'NotFoundError':
    case 'OverconstrainedError':
      return `No ${thing} or microphone that fits was found. Connect one, or choose something else to send.`;
    case 'NotReadableError':
      return `The ${thing} can't be read. Another program may be using it.`;
    default:
      return `The ${thing} could not be opened: ${error.message}`;
  }
}
