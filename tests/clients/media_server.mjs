// node-media-server on one port, without HTTP. Prints what each client says, before it is taken apart:
// `event {"event": "connect" | "publish" | "media" | "done", …}`.
//
//   node media_server.mjs PORT
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)
const MediaServer = require('node-media-server')
const Session = require('node-media-server/src/node_rtmp_session')

const tell = (event, fields) => console.log(`event ${JSON.stringify({ event, ...fields })}`)

// The server's own events have the application and the key in pieces.
const { onConnect, onPublish, rtmpVideoHandler, onDeleteStream } = Session.prototype
Session.prototype.onConnect = function (message) {
  tell('connect', { app: message.cmdObj.app, tcUrl: message.cmdObj.tcUrl })
  return onConnect.call(this, message)
}
Session.prototype.onPublish = function (message) {
  tell('publish', { name: message.streamName })
  return onPublish.call(this, message)
}
Session.prototype.rtmpVideoHandler = function () {
  if (!this.told) tell('media', {})
  this.told = true
  return rtmpVideoHandler.call(this)
}
Session.prototype.onDeleteStream = function (message) {
  tell('done', {})
  return onDeleteStream.call(this, message)
}

new MediaServer({
  logType: 1,
  rtmp: { port: Number(process.argv[2]), chunk_size: 4096, gop_cache: false, ping: 30, ping_timeout: 60 },
}).run()
