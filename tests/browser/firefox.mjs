// Starts Firefox with fake devices, over WebDriver BiDi: the browser as the distribution packages it.

import puppeteer from "puppeteer-core";

/** A running Firefox; its pages take `goto`, `evaluate`, `exposeFunction` and `on` as Chromium's do here. */
export function launchFirefox() {
  return puppeteer.launch({
    browser: "firefox",
    executablePath: process.env.FIREFOX ?? "/usr/bin/firefox-esr",
    headless: true,
    extraPrefsFirefox: {
      "media.navigator.streams.fake": true,
      "media.navigator.permission.disabled": true,
      "media.autoplay.default": 0,
      "media.autoplay.blocking_policy": 0,
      // Nothing that asks the network for anything but the tests' own pages.
      "media.gmp-manager.updateEnabled": false,
      "media.gmp-provider.enabled": false,
      "network.captive-portal-service.enabled": false,
      "network.connectivity-service.enabled": false,
      "network.proxy.type": 0,
      "app.normandy.enabled": false,
      "browser.safebrowsing.malware.enabled": false,
      "browser.safebrowsing.phishing.enabled": false,
      "services.settings.server": "http://127.0.0.1:9",
    },
  });
}
