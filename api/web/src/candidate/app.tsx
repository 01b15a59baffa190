// Which screen is shown, and what goes on beside it.

import { useEffect, useMemo, useReducer, useRef } from "preact/hooks";
import { Channel } from "../channel";
import { Banners } from "./banners";
import { forgetDrafts, isCutShort } from "./drafts";
import { Closed, Connecting, Ending } from "./ending";
import { leaveFullScreen } from "./fullscreen";
import { useTabState } from "./hooks";
import type { Kit, TabState } from "./kit";
import type { Interview, Stage } from "./machine";
import { reduce, stageOf, standstill, START } from "./machine";
import { Media } from "./media";
import { QuestionRoom } from "./question";
import { Consent } from "./steps/consent";
import { Devices } from "./steps/devices";
import { Ready } from "./steps/ready";
import { ReferencePicture } from "./steps/reference";
import { Stills } from "./stills";
import type { PageConfig, SavedAnswer, Session, Store } from "./types";
import { Video } from "./video";
import { Outbox, watchPage } from "./watch";

const FRESH: TabState = {
  devices: false,
  reference: false,
  camera: true,
  microphone: true,
  hasEnteredFullScreen: false,
};

interface Props {
  config: PageConfig;
  token: string;
  store: Store | null;
}

export function App(props: Props) {
  const [now, dispatch] = useReducer(reduce, START);
  const [, drawAgain] = useReducer<number, void>((n) => n + 1, 0);
  const [tab, setTab] = useTabState(`interview-steps:${props.config.session_id}`, FRESH);
  const kit = useMemo(() => assemble(props, dispatch, drawAgain), []);
  const stage = stageOf(now, tab);

  useEffect(() => {
    kit.channel.connect();
    return () => kit.channel.close();
  }, []);
  useMediaAndVideo(kit, now, stage, tab);
  useStills(kit, now, stage);
  useWatch(kit, now, stage, tab);
  useLeaveWarning(stage === "question");
  useCleanUp(kit, now, stage);

  return <Screen kit={kit} now={now} stage={stage} tab={tab} setTab={setTab} />;
}

interface ScreenProps {
  kit: Kit;
  now: Interview;
  stage: Stage;
  tab: TabState;
  setTab(changes: Partial<TabState>): void;
}

function Screen({ kit, now, stage, tab, setTab }: ScreenProps) {
  const { session, question } = now;
  if (session && question && stage === "question") {
    return (
      <QuestionRoom
        kit={kit}
        now={now}
        session={session}
        question={question}
        usesCamera={usesCamera(session, tab)}
        hasEnteredFullScreen={tab.hasEnteredFullScreen}
        onFullScreen={() => setTab({ hasEnteredFullScreen: true })}
      />
    );
  }
  if (session && stage === "ended") return <Ending session={session} />;
  if (session && session.status === "initialized" && STEPS.includes(stage)) {
    return (
      <>
        <Step kit={kit} session={session} stage={stage} tab={tab} setTab={setTab} />
        <Banners now={now} clock={kit.channel.clock} />
      </>
    );
  }
  if (now.closedCode === null) return <Connecting now={now} />;
  return <Closed key={stage} stage={stage} onReturn={() => kit.channel.connect()} />;
}

const STEPS: readonly Stage[] = ["consent", "devices", "reference", "ready"];

function Step({ kit, session, stage, tab, setTab }: Omit<ScreenProps, "now"> & { session: Session }) {
  const steps = usesCamera(session, tab) ? 4 : 3;
  const backToDevices = () => setTab({ devices: false });
  switch (stage) {
    case "consent":
      return <Consent kit={kit} session={session} steps={steps} />;
    case "devices":
      return (
        <Devices
          kit={kit}
          session={session}
          steps={steps}
          onDone={(used) => setTab({ devices: true, ...used })}
        />
      );
    case "reference":
      return (
        <ReferencePicture
          kit={kit}
          session={session}
          steps={steps}
          onDone={() => setTab({ reference: true })}
          onBack={backToDevices}
        />
      );
    default:
      return (
        <Ready
          kit={kit}
          session={session}
          steps={steps}
          onFullScreen={() => setTab({ hasEnteredFullScreen: true })}
          onBack={backToDevices}
        />
      );
  }
}

function assemble({ config, token, store }: Props, dispatch: Kit["dispatch"], drawAgain: () => void): Kit {
  const media = new Media();
  const video = new Video(config.session_id, media, drawAgain);
  const cutShort = new Set<number>(); // noted when it is first told: the device forgets what is answered
  const compare = (answers: SavedAnswer[]) => {
    for (const answer of answers) if (isCutShort(store, config.session_id, answer)) cutShort.add(answer.question_index);
  };
  const channel: Channel = new Channel({
    sessionId: config.session_id,
    token,
    role: "candidate",
    onFrame(frame) {
      if (frame.type === "state") compare(frame.session.answers);
      else if (frame.type === "question_expired" && frame.answer) compare([frame.answer]);
      dispatch({ kind: "frame", frame, isCutShort: cutShort.has(frame.question_index) });
      if (frame.type === "livekit") video.roomIs(frame.livekit);
      else if (frame.type === "state") video.roomIs(frame.session.livekit);
    },
    onStatus(status, { code, silentSince }) {
      const silentMs = silentSince === undefined ? 0 : performance.now() - silentSince;
      if (status === "lost") dispatch({ kind: "lost", since: channel.clock.now() - silentMs });
      else if (status === "closed" && code !== undefined) dispatch({ kind: "closed", code });
    },
  });
  return { config, token, channel, media, video, store, dispatch };
}

function usesCamera(session: Session, tab: TabState): boolean {
  return tab.camera && !session.accommodations.camera_exempt;
}

/** After a reload, camera and microphone are taken again in the background. Video joins once they are checked. */
function useMediaAndVideo(kit: Kit, now: Interview, stage: Stage, tab: TabState): void {
  const { session } = now;
  const isOn = stage === "reference" || stage === "ready" || stage === "question";
  const mayUse = session !== null && session.consent_at !== null && isOn;
  const hasVideo = session?.proctoring.watches.includes("video") ?? false;
  useEffect(() => {
    if (mayUse) void kit.media.start({ camera: usesCamera(session, tab), microphone: tab.microphone });
  }, [mayUse]);
  useEffect(() => {
    if (mayUse && hasVideo) kit.video.start();
  }, [mayUse, hasVideo]);
  const isOver = stage === "ended" || now.closedCode !== null;
  useEffect(() => {
    if (!isOver) return;
    kit.video.stop();
    kit.media.stop();
  }, [isOver]);
}

function useStills(kit: Kit, now: Interview, stage: Stage): void {
  const { session } = now;
  const [hasCamera, look] = useReducer<boolean, void>(() => kit.media.track("camera") !== null, false);
  useEffect(() => kit.media.onChange(look), []);
  const mayTake = session !== null && session.consent_at !== null && !session.accommodations.camera_exempt;
  const isRunning = stage === "question" && standstill(now) === null;
  const takes = mayTake && isRunning && hasCamera;
  useEffect(() => {
    if (!takes || !session) return undefined;
    const stills = new Stills({
      sessionId: session.session_id,
      token: kit.token,
      frameSeconds: session.proctoring.frame_seconds,
      stream: kit.media.stream,
    });
    return () => stills.stop();
  }, [takes]);
}

function useWatch(kit: Kit, now: Interview, stage: Stage, tab: TabState): void {
  const latest = useRef(tab);
  latest.current = tab;
  const wasWaiting = useRef(false);
  if (now.session?.status === "initialized") wasWaiting.current = true;
  // Only what has worked in the check can go off later.
  const uses = useRef({ camera: false, microphone: false });
  if (now.session) {
    const { devices, microphone } = tab;
    uses.current = { camera: devices && usesCamera(now.session, tab), microphone: devices && microphone };
  }
  const outbox = useMemo(() => {
    const { channel } = kit;
    return new Outbox({ send: (type, body) => channel.send(type, body), isOpen: () => channel.status === "open" });
  }, []);
  const isRunning = stage === "question";
  useEffect(() => {
    if (!isRunning) return undefined;
    const isReloaded = !wasWaiting.current;
    wasWaiting.current = false;
    const watched = {
      hasEnteredFullScreen: () => latest.current.hasEnteredFullScreen,
      isCameraOff: () => uses.current.camera && isAway(kit, "camera"),
      isMicrophoneMuted: () => uses.current.microphone && isAway(kit, "microphone"),
      onMediaChange: (listener: () => void) => kit.media.onChange(listener),
    };
    return watchPage(outbox, watched, isReloaded);
  }, [isRunning]);
  useEffect(() => {
    if (isRunning && now.loss === null) outbox.flush();
  }, [isRunning, now.loss]);
}

/** A camera that is still being asked for is not off yet. */
function isAway(kit: Kit, kind: "camera" | "microphone"): boolean {
  const { state } = kit.media[kind];
  return state === "failed" || (state === "working" && !kit.media.isLive(kind));
}

function useLeaveWarning(isOn: boolean): void {
  useEffect(() => {
    if (!isOn) return undefined;
    const warn = (event: BeforeUnloadEvent) => {
      event.preventDefault();
      event.returnValue = "";
    };
    window.addEventListener("beforeunload", warn);
    return () => window.removeEventListener("beforeunload", warn);
  }, [isOn]);
}

/** Text that the server has as an answer is not kept on the device any longer. */
function useCleanUp(kit: Kit, now: Interview, stage: Stage): void {
  const answers = now.session?.answers;
  useEffect(() => {
    const saved = new Set(answers?.map((answer) => answer.question_index));
    if (saved.size > 0) forgetDrafts(kit.store, kit.config.session_id, (index) => saved.has(index));
  }, [answers]);
  useEffect(() => {
    if (stage !== "ended") return;
    forgetDrafts(kit.store, kit.config.session_id);
    leaveFullScreen();
  }, [stage]);
}
