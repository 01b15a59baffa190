import type { ComponentChildren } from "preact";
import { useEffect, useId, useState } from "preact/hooks";
import { useMedia, useTick } from "../hooks";
import type { Kit } from "../kit";
import type { Device, DeviceProblem, Kind, Media } from "../media";
import { measureLevel } from "../media";
import type { Tone } from "../parts";
import { Heading, Mirror, Sheet, Status } from "../parts";
import type { Session } from "../types";
import { extendedScreen, isExtended } from "../watch";

const SLOW_MS = 400;

interface Props {
  kit: Kit;
  session: Session;
  steps: number;
  onDone(used: { camera: boolean; microphone: boolean }): void;
}

export function Devices({ kit, session, steps, onDone }: Props) {
  const media = useMedia(kit.media);
  const isExempt = session.accommodations.camera_exempt;
  const kinds: Kind[] = isExempt ? ["microphone"] : ["camera", "microphone"];
  const [without, setWithout] = useState<Record<Kind, boolean>>({ camera: isExempt, microphone: false });
  const [problem, setProblem] = useState<string | null>(null);

  useEffect(() => void media.start({ camera: !isExempt, microphone: true }), []);

  const doWithout = (kind: Kind) => {
    media.doWithout(kind);
    setWithout({ ...without, [kind]: true });
  };
  const retry = (kind: Kind) => {
    setWithout({ ...without, [kind]: false });
    void media.retry(kind);
  };
  const undecided = kinds.find((kind) => media[kind].state !== "working" && !without[kind]);
  const finish = () => {
    if (undecided) return setProblem(`Please decide about the ${undecided} first: try again, or continue without it.`);
    onDone({ camera: media.camera.state === "working", microphone: media.microphone.state === "working" });
  };

  return (
    <Sheet step={2} of={steps}>
      <Heading>Check your equipment</Heading>
      <p class="lead">Your browser may ask whether this page may use your devices. Choose “Allow”.</p>
      <div class="checks">
        {kinds.map((kind) => (
          <DeviceCheck
            key={kind}
            kind={kind}
            media={media}
            isLeftOut={without[kind]}
            onRetry={() => retry(kind)}
            onWithout={() => doWithout(kind)}
          />
        ))}
        <ScreenCheck />
        <ConnectionCheck kit={kit} />
      </div>
      <p class="error" role="alert">
        {undecided ? problem : null}
      </p>
      <div class="actions">
        <button type="button" class="primary" onClick={finish}>
          Continue
        </button>
      </div>
    </Sheet>
  );
}

interface DeviceCheckProps {
  kind: Kind;
  media: Media;
  isLeftOut: boolean;
  onRetry(): void;
  onWithout(): void;
}

function DeviceCheck({ kind, media, isLeftOut, onRetry, onWithout }: DeviceCheckProps) {
  const device = media[kind];
  const isWorking = device.state === "working";
  return (
    <Check title={TITLES[kind]}>
      {isLeftOut ? <Status tone="warn">{WITHOUT[kind]}</Status> : <DeviceStatus kind={kind} device={device} />}
      {kind === "camera" && isWorking && <Mirror stream={media.stream} label="Your camera" class="preview" />}
      {kind === "microphone" && isWorking && <Level track={media.track("microphone")} />}
      <DeviceChoice kind={kind} media={media} />
      {!isWorking && (
        <div class="actions">
          <button type="button" onClick={onRetry}>
            Try again <span class="visually-hidden">with the {kind}</span>
          </button>
          {!isLeftOut && (
            <button type="button" onClick={onWithout}>
              Continue without {kind}
            </button>
          )}
        </div>
      )}
    </Check>
  );
}

const TITLES: Record<Kind, string> = { camera: "Camera", microphone: "Microphone" };
const WORKING: Record<Kind, string> = {
  camera: "Working. You should see yourself.",
  microphone: "Working. Say something: the bar should move.",
};
const WITHOUT: Record<Kind, string> = {
  camera:
    "You continue without a camera. No pictures are taken, and the people who read your answers will see that. You can still take the whole interview.",
  microphone: "You continue without a microphone. Nobody can hear you; you can still take the whole interview.",
};

function DeviceStatus({ kind, device }: { kind: Kind; device: Device }) {
  switch (device.state) {
    case "working":
      return <Status tone="ok">{WORKING[kind]}</Status>;
    case "failed":
      return <Status tone="bad">{adviceFor(kind, device.problem)}</Status>;
    default:
      return <Status tone="wait">Waiting for your {kind}. If your browser asks, choose “Allow”.</Status>;
  }
}

function adviceFor(kind: Kind, problem: DeviceProblem): string {
  const advice: Record<DeviceProblem, string> = {
    denied: `The browser does not let this page use the ${kind}. Click the lock or camera sign beside the address, allow the ${kind}, then try again.`,
    missing: `No ${kind} was found. Plug one in or switch it on, then try again.`,
    busy: `The ${kind} is in use by another program, or could not be started. Close other programs that use it, for example video calls, then try again.`,
    stopped: `The ${kind} has stopped. It may be unplugged, or switched off. Check it, then try again.`,
    insecure: `The browser allows a ${kind} only on secure pages (https), and this page is not one. Contact whoever sent you the link, or continue without it.`,
    unsupported: `This browser cannot use a ${kind}. Open the link in a current Chrome, Edge, Firefox or Safari, or continue without it.`,
    other: `The ${kind} could not be started. Unplug it and plug it in again, or restart the browser, then try again.`,
  };
  return advice[problem];
}

function DeviceChoice({ kind, media }: { kind: Kind; media: Media }) {
  const id = useId();
  const choices = media.choices[kind];
  if (choices.length < 2) return null;
  return (
    <div class="field">
      <label for={id}>Use this {kind}</label>
      <select
        id={id}
        value={media.chosen[kind] ?? choices[0]?.id}
        onChange={(event) => void media.choose(kind, event.currentTarget.value)}
      >
        {choices.map((choice) => (
          <option key={choice.id} value={choice.id}>
            {choice.label}
          </option>
        ))}
      </select>
    </div>
  );
}

function Level({ track }: { track: MediaStreamTrack | null }) {
  const [level, setLevel] = useState(0);
  const [wasHeard, setHeard] = useState(false);
  useEffect(() => {
    if (!track) return undefined;
    return measureLevel(track, (now) => {
      setLevel(now);
      if (now > 0.1) setHeard(true);
    });
  }, [track]);
  return (
    <>
      <meter class="level" aria-label="Microphone level" min={0} max={1} value={level} />
      <p class="muted">{wasHeard ? "We can hear you." : "Nothing heard yet."}</p>
    </>
  );
}

function ScreenCheck() {
  useTick(2_000);
  const [, again] = useState(0);
  useEffect(() => {
    const target = extendedScreen();
    const look = () => again((n) => n + 1);
    target?.addEventListener("change", look);
    return () => target?.removeEventListener("change", look);
  }, []);
  const size = `${screen.width} × ${screen.height}`;
  return (
    <Check title="Screen">
      {isExtended() ? (
        <Status tone="warn">
          Your screen has {size} pixels, and a second screen is connected. Disconnect it if you can; if not, it is noted
          that it was there.
        </Status>
      ) : (
        <Status tone="ok">
          Good: your screen has {size} pixels{isExtended() === false ? ", and no second screen is connected" : ""}.
        </Status>
      )}
    </Check>
  );
}

function ConnectionCheck({ kit }: { kit: Kit }) {
  useTick(1_000);
  const [tone, words] = connectionWords(kit);
  return (
    <Check title="Connection">
      <Status tone={tone}>{words}</Status>
    </Check>
  );
}

function connectionWords({ channel }: Kit): [Tone, string] {
  if (channel.status !== "open") {
    return ["bad", "Lost. Check your network; this page tries again by itself. You can also continue and wait."];
  }
  if (channel.rtt === null) return ["wait", "Measuring…"];
  if (channel.rtt < SLOW_MS) return ["ok", "Good."];
  return ["warn", "Slow. It is enough for the interview. Close downloads and other video, or go nearer to the router."];
}

function Check({ title, children }: { title: string; children: ComponentChildren }) {
  const id = useId();
  return (
    <section class="panel check-panel" aria-labelledby={id}>
      <h2 id={id}>{title}</h2>
      {children}
    </section>
  );
}
