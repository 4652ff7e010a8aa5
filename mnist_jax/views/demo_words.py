"""What the demo page says, in each language."""

from typing import Literal, get_args

from mnist_jax.nets.trained import TrainedNet

Language = Literal["en", "ko"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "title": "Draw a digit",
        "about": "While you draw, each lesson's net says which digit it sees. Nets of {folder}.",
        "drawing": "Drawing",
        "field": "Field to draw a digit on, with mouse or finger",
        "clear": "Clear",
        "picture": "Picture…",
        "seen": "What the nets see",
        "nothing": "What the nets see: nothing yet",
        "form": "28 x 28 pixels, scaled and centred as in MNIST",
        "probabilities": "Probabilities",
        "over": "The demo is no longer running. Start it again in the terminal.",
        "large": "This picture has more than {megabytes} MB.",
        "refused": "",  # as the program says it
        "trained": "seed {seed}, after epoch {epoch}",
        "imported": "imported",
    },
    "ko": {
        "title": "숫자를 써 보세요",
        "about": "숫자를 쓰는 동안 실습마다 신경망이 예측한 숫자를 보여 줍니다. {folder} 폴더의 신경망입니다.",
        "drawing": "숫자 쓰기",
        "field": "마우스나 손가락으로 숫자를 쓰는 칸",
        "clear": "지우기",
        "picture": "이미지 열기…",
        "seen": "신경망에 입력되는 이미지",
        "nothing": "신경망에 입력되는 이미지: 아직 없음",
        "form": "28×28픽셀, MNIST처럼 크기와 위치를 맞춤",
        "probabilities": "확률",
        "over": "데모가 종료되었습니다. 터미널에서 다시 실행하세요.",
        "large": "이미지가 {megabytes}MB보다 큽니다. 더 작은 이미지를 여세요.",
        "refused": "숫자를 읽을 수 없는 이미지입니다. 숫자 하나가 있는 PNG나 JPEG 이미지를 여세요.",
        "trained": "시드 {seed}, {epoch}에포크 학습",
        "imported": "다른 프로그램에서 가져옴",
    },
}


def history(net: TrainedNet, language: Language) -> str:
    """Where a net comes from."""
    return WORDS[language]["trained" if net.epoch else "imported"].format(seed=net.seed, epoch=net.epoch)
